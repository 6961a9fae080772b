"""National identity, tax and health-insurance numbers of other countries, each checked by ``python-stdnum``."""

from __future__ import annotations

import re

from classifiers.base import Entity, NumberDetector, PatternDetector, Verdict, register
from classifiers.label import Sensitivity


def _entity(entity_type: str, title: str) -> Entity:
    return Entity(entity_type, "pii", Sensitivity.RESTRICTED, title)


@register
class UkNino(PatternDetector):
    name = "uk_nino"
    source = "HM Revenue & Customs NIM39110: two letters, six digits, suffix A-D; some prefixes are not used"
    entities = (_entity("UK_NINO", "UK national insurance number"),)
    prefilters = (r"(?:^|[^0-9A-Za-z])[A-Za-z]{2} ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-Da-d](?:[^0-9A-Za-z]|$)",)
    reach = (18, 2)
    expression = (
        r"(?<![0-9A-Za-z])(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]"
        r" ?\d{2} ?\d{2} ?\d{2} ?[A-D](?![0-9A-Za-z])"
    )
    words = ("national insurance", "nino", "ni number", "ni no")
    alone = 0.75
    heeds_decoys = True
    examples = ("National Insurance number ⟦AB 12 34 56 C⟧", "NINO ⟦AB123456C⟧", "employee ⟦AB123456C⟧")
    near_misses = ("batch AB123456C", "GB123456C is a part", "QQ 12 34 56 C is the documented sample")


@register
class GermanTaxId(NumberDetector):
    name = "de_tax_id"
    source = "German Abgabenordnung § 139b: eleven digits, ISO 7064 MOD 11,10"
    entities = (_entity("DE_TAX_ID", "German tax identification number"),)
    prefilters = (r"(?:^|[^0-9A-Za-z])[1-9][0-9] ?[0-9]{3} ?[0-9]{3} ?[0-9]{3}(?:[^0-9A-Za-z]|$)",)
    reach = (16, 2)
    expression = r"(?<![0-9A-Za-z])[1-9]\d ?\d{3} ?\d{3} ?\d{3}(?![0-9A-Za-z])"
    words = ("steuer id", "steueridentifikationsnummer", "steuernummer", "idnr", "steuer idnr", "german tax")
    alone = 0.3
    in_context = 0.95
    stdnum = "de.idnr"
    examples = ("Steuer-ID: ⟦36 574 261 809⟧", "Steueridentifikationsnummer ⟦36574261809⟧")
    near_misses = ("Bestellung 36574261809", "36 574 261 809 people")


@register
class FrenchNir(NumberDetector):
    name = "fr_nir"
    source = "INSEE: numéro d'inscription au répertoire, sex, birth year and month, place, order, key modulo 97"
    entities = (_entity("FR_NIR", "French social security number"),)
    prefilters = (
        r"(?:^|[^0-9A-Za-z])[12] ?[0-9]{2} ?[0-9]{2} ?[0-9][0-9AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}(?:[^0-9A-Za-z]|$)",
    )
    reach = (26, 2)
    expression = r"(?<![0-9A-Za-z])[12] ?\d{2} ?(?:0[1-9]|[1-9]\d) ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2}(?![0-9A-Za-z])"
    words = ("sécurité sociale", "securite sociale", "nir", "insee", "numéro de sécu", "social security")
    alone = 0.75
    stdnum = "fr.nir"
    examples = ("Numéro de sécurité sociale : ⟦2 95 10 99 126 111 93⟧", "⟦295109912611193⟧ patiente")
    near_misses = ("ref 295109912611194", "order 295109912611193")


@register
class SpanishDni(NumberDetector):
    name = "es_dni"
    source = "Spanish Real Decreto 1553/2005: eight digits and a letter modulo 23"
    entities = (_entity("ES_DNI", "Spanish identity number"),)
    prefilters = (r"(?:^|[^0-9A-Za-z])[0-9]{8}[ \-]?[A-Za-z](?:[^0-9A-Za-z]|$)",)
    reach = (12, 2)
    expression = r"(?<![0-9A-Za-z])\d{8}[ \-]?[A-HJ-NP-TV-Z](?![0-9A-Za-z])"
    words = ("dni", "nif", "documento nacional", "identidad")
    alone = 0.55
    stdnum = "es.dni"
    examples = ("Mi DNI es ⟦54362315-K⟧", "cliente ⟦54362315K⟧")
    near_misses = ("pieza 54362315-A", "lot 54362315K")


@register
class SpanishNie(NumberDetector):
    name = "es_nie"
    source = "Spanish Real Decreto 557/2011: X, Y or Z, seven digits and a letter modulo 23"
    entities = (_entity("ES_NIE", "Spanish foreigner's identity number"),)
    prefilters = (r"(?:^|[^0-9A-Za-z])[XYZxyz]-?[0-9]{7}-?[A-Za-z](?:[^0-9A-Za-z]|$)",)
    reach = (13, 2)
    expression = r"(?<![0-9A-Za-z])[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z](?![0-9A-Za-z])"
    words = ("nie", "extranjero", "identidad")
    alone = 0.65
    stdnum = "es.nie"
    examples = ("NIE ⟦X-2482300-W⟧", "residente ⟦X2482300W⟧")
    near_misses = ("part X-2482300-A",)


@register
class ItalianFiscalCode(NumberDetector):
    name = "it_fiscal_code"
    source = "Italian Decreto Ministeriale 23/12/1976: codice fiscale with check letter"
    entities = (_entity("IT_FISCAL_CODE", "Italian fiscal code"),)
    prefilters = (
        r"(?:^|[^0-9A-Za-z])[A-Za-z]{6}[0-9A-Za-z]{2}[A-Za-z][0-9A-Za-z]{2}[A-Za-z][0-9A-Za-z]{3}[A-Za-z](?:[^0-9A-Za-z]|$)",
    )
    reach = (18, 2)
    expression = (
        r"(?<![0-9A-Za-z])[A-Za-z]{6}[0-9LMNP-Vlmnp-v]{2}[A-EHLMPR-Ta-ehlmpr-t][0-9LMNP-Vlmnp-v]{2}"
        r"[A-Za-z][0-9LMNP-Vlmnp-v]{3}[A-Za-z](?![0-9A-Za-z])"
    )
    words = ("codice fiscale", "fiscal code", "c.f.")
    alone = 0.9
    stdnum = "it.codicefiscale"
    examples = ("Codice fiscale: ⟦RCCMNL83S18D969H⟧", "⟦RCCMNL83S18D969H⟧")
    near_misses = ("code RCCMNL83S18D969A", "internationalise")


@register
class IndianAadhaar(NumberDetector):
    name = "in_aadhaar"
    source = "UIDAI: twelve digits, the first 2-9, Verhoeff check digit"
    entities = (_entity("IN_AADHAAR", "Indian Aadhaar number"),)
    prefilters = (r"(?:^|[^0-9A-Za-z])[2-9][0-9]{3}[ \-]?[0-9]{4}[ \-]?[0-9]{4}(?:[^0-9A-Za-z]|$)",)
    reach = (16, 2)
    expression = r"(?<![0-9A-Za-z\-])[2-9]\d{3}([ \-]?)\d{4}\1\d{4}(?![0-9A-Za-z]|[ \-]\d)"
    words = ("aadhaar", "aadhar", "uidai", "uid")
    alone = 0.3
    in_context = 0.97
    stdnum = "in_.aadhaar"
    examples = ("Aadhaar ⟦2341 2341 2346⟧", "my aadhar number is ⟦234123412346⟧")
    near_misses = ("reading 2341 2341 2346", "tracking 234123412346")


@register
class IndianPan(NumberDetector):
    name = "in_pan"
    source = "Income Tax Department of India: five letters (the fourth the holder's type), four digits, a letter"
    entities = (_entity("IN_PAN", "Indian permanent account number"),)
    prefilters = (r"(?:^|[^0-9A-Za-z])[A-Z]{3}[ABCFGHJLPT][A-Z][0-9]{4}[A-Z](?:[^0-9A-Za-z]|$)",)
    reach = (12, 2)
    expression = r"(?<![0-9A-Za-z])[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z](?![0-9A-Za-z])"
    words = ("pan", "pan card", "permanent account", "income tax", "india")
    alone = 0.45
    in_context = 0.95
    stdnum = "in_.pan"
    examples = ("PAN: ⟦ACUPA7085R⟧", "PAN card number ⟦ACUPA7085R⟧")
    near_misses = ("module ACUPA7085R", "SKU ACUPA7085R")


@register
class SingaporeNric(PatternDetector):
    name = "sg_nric"
    source = "Singapore NRIC and FIN: prefix S, T, F, G or M, seven digits, check letter modulo 11"
    entities = (_entity("SG_NRIC", "Singapore identity number"),)
    prefilters = (r"(?:^|[^0-9A-Za-z])[STFGMstfgm][0-9]{7}[A-Za-z](?:[^0-9A-Za-z]|$)",)
    reach = (11, 2)
    expression = r"(?<![0-9A-Za-z])[STFGM]\d{7}[A-Z](?![0-9A-Za-z])"
    words = ("nric", "fin", "singapore", "ic number", "identity card", "work permit")
    alone = 0.75
    heeds_decoys = True
    examples = ("NRIC ⟦S1234567D⟧", "NRIC ⟦S1234567A⟧ mistyped", "applicant ⟦T1234567J⟧")
    near_misses = ("part S1234567A", "batch S1234567D")

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        prefix, digits, letter = value[0], value[1:8], value[8]
        total = sum(int(digit) * weight for digit, weight in zip(digits, (2, 7, 6, 5, 4, 3, 2), strict=True))
        total += {"S": 0, "F": 0, "T": 4, "G": 4, "M": 3}[prefix]
        if prefix in "ST":
            expected = "JZIHGFEDCBA"[total % 11]
        elif prefix in "FG":
            expected = "XWUTRQPNMLK"[total % 11]
        else:
            expected = "KLJNPQRTUWX"[10 - total % 11]
        return Verdict.VALID if letter == expected else Verdict.FAILED


@register
class BrazilianCpf(NumberDetector):
    name = "br_cpf"
    source = "Receita Federal: Cadastro de Pessoas Físicas, eleven digits with two check digits"
    entities = (_entity("BR_CPF", "Brazilian CPF number"),)
    prefilters = (r"(?:^|[^0-9A-Za-z])[0-9]{3}\.?[0-9]{3}\.?[0-9]{3}-?[0-9]{2}(?:[^0-9A-Za-z]|$)",)
    reach = (16, 2)
    expression = r"(?<![0-9A-Za-z.])(?:\d{3}\.\d{3}\.\d{3}-\d{2}|\d{11})(?![0-9A-Za-z])"
    words = ("cpf", "cadastro de pessoas", "contribuinte")
    stdnum = "br.cpf"
    examples = ("CPF: ⟦390.533.447-05⟧", "cpf ⟦39053344705⟧", "cliente ⟦390.533.447-05⟧")
    near_misses = ("valor 231.002.999-00", "pedido 39053344705")

    def score_alone(self, value: str) -> float:
        return 0.9 if "." in value else 0.3


@register
class AustralianTaxFileNumber(NumberDetector):
    name = "au_tfn"
    source = "Australian Taxation Office: tax file number, eight or nine digits, weighted modulo 11"
    entities = (_entity("AU_TFN", "Australian tax file number"),)
    prefilters = (r"(?:^|[^0-9A-Za-z])[0-9]{2,3} ?[0-9]{3} ?[0-9]{3}(?:[^0-9A-Za-z]|$)",)
    reach = (14, 2)
    expression = r"(?<![0-9A-Za-z])\d{2,3} ?\d{3} ?\d{3}(?![0-9A-Za-z])"
    words = ("tfn", "tax file", "tax file number")
    alone = 0.2
    in_context = 0.95
    stdnum = "au.tfn"
    examples = ("TFN ⟦123 456 782⟧", "tax file number: ⟦123456782⟧")
    near_misses = ("population 123 456 782", "order 123456782")


@register
class CanadianSin(NumberDetector):
    name = "ca_sin"
    source = "Service Canada: social insurance number, nine digits, Luhn"
    entities = (_entity("CA_SIN", "Canadian social insurance number"),)
    prefilters = (r"(?:^|[^0-9A-Za-z])[0-9]{3}[ \-]?[0-9]{3}[ \-]?[0-9]{3}(?:[^0-9A-Za-z]|$)",)
    reach = (14, 2)
    expression = r"(?<![0-9A-Za-z\-])\d{3}([ \-]?)\d{3}\1\d{3}(?![0-9A-Za-z]|-\d)"
    words = ("sin number", "social insurance", "sin:", "sin #", "canadian sin")
    alone = 0.3
    in_context = 0.95
    stdnum = "ca.sin"
    examples = ("Social Insurance Number ⟦123-456-782⟧", "canadian SIN ⟦123 456 782⟧")
    near_misses = ("dial 123-456-782", "serial 123456782")


@register
class KoreanRrn(NumberDetector):
    name = "kr_rrn"
    source = "Korean resident registration number: birth date, sex and century, place, check digit"
    entities = (_entity("KR_RRN", "Korean resident registration number"),)
    prefilters = (r"(?:^|[^0-9A-Za-z])[0-9]{6}-?[0-9]{7}(?:[^0-9A-Za-z]|$)",)
    reach = (16, 2)
    expression = r"(?<![0-9A-Za-z\-])\d{6}-?\d{7}(?![0-9A-Za-z]|-\d)"
    words = ("주민등록번호", "resident registration", "rrn")
    stdnum = "kr.rrn"
    examples = ("주민등록번호 ⟦971013-9019902⟧", "⟦971013-9019902⟧ 고객")
    near_misses = ("id 971013-9019903", "timestamp 9710139019902")

    def score_alone(self, value: str) -> float:
        return 0.85 if "-" in value else 0.25
