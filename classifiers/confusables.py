"""Letters of other scripts that look like Latin ones, so that ``pаsswоrd`` is read as ``password``.

Source: a selection after Unicode Technical Standard #39, ``confusables.txt``, for the scripts that people have on their
keyboards. Letters keep their case: that table's ``l`` for ``I`` and ``1`` is not followed.
"""

from __future__ import annotations

# Each look-alike, then what it is read as.
_CYRILLIC = "аaеeоoрpсcуyхxѕsіiјjһhԁdԛqԝwӏlгrүyб6АAВBЕEКKМMНHОOРPСCТTУYХXЅSІIЈJԌGԚQԜWҮYЗ3ЬbӀI"
_GREEK = "αaοoρpνvιiγyσoυuϲcϳjΑAΒBΕEΖZΗHΙIΚKΜMΝNΟOΡPΤTΥYΧXϹCͿJ"
_ARMENIAN = "ոnսuօoցgհhզqՍUՕOԼL"
_LATIN = "ıiɑaɡgɩiᴄcᴏoᴠvᴡwᴢzꜱsǀlʏyɪi"


def _pairs(written: str) -> dict[int, str]:
    return {ord(look_alike): plain for look_alike, plain in zip(written[::2], written[1::2], strict=True)}


LOOK_ALIKES: dict[int, str] = {
    code: plain for script in (_CYRILLIC, _GREEK, _ARMENIAN, _LATIN) for code, plain in _pairs(script).items()
}
"""Code point → the plain character that it looks like."""
