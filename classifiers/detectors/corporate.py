"""Markings by which organisations say how far a document may go. A question about a marking is not one."""

from __future__ import annotations

from classifiers.base import Entity, PatternDetector, register
from classifiers.label import Sensitivity

# A marking stands alone: at the edge of a line or in brackets, in capitals, or with the phrase that goes with it.
_OPEN = r"(?:(?:^|(?<=\n))[ \t#*>|=_\-/]{0,8}|[\[(【<《][ *]{0,3})"
_CLOSE = r"(?=[ \t#*|=_\-.!/:★]{0,8}(?:$|\n)|[ *]{0,3}[\])】>》]|\s?[-:,;/|★])"


@register
class InternalMarking(PatternDetector):
    name = "internal_marking"
    source = "Common markings: INTERNAL ONLY, for internal use only, 内部资料, 内部使用"
    entities = (Entity("INTERNAL_MARKING", "corporate", Sensitivity.INTERNAL, "Marked for internal use"),)
    prefilters = (
        r"(?i)internal.{0,2}(?:use|only|distribution)|company.internal",
        "内部资料|内部文件|内部使用|内部公开|仅限内部|仅供内部",
    )
    reach = (48, 48)
    expression = (
        r"内部(?:资料|文件)[,\s!]{0,2}(?:注意保密|严禁外传|请勿外传|不得外传|切勿外传)"
        r"|(?i:(?:for|company|strictly)\s(?:company\s)?internal(?:\suse)?\sonly|do\snot\sdistribute\soutside)"
        r"|INTERNAL(?:[ _-]USE)?[ _-]ONLY"
        rf"|{_OPEN}(?P<v>(?i:internal\s(?:use\s)?only|internal\suse)|INTERNAL|内部(?:资料|文件|使用|公开)){_CLOSE}"
        r"|仅限内部(?:使用|传阅|人员)?|仅供内部(?:使用|参考|传阅)"
    )
    alone = 0.9
    examples = (
        "⟦INTERNAL ONLY⟧\nRoadmap for Q3",
        "This memo is ⟦for internal use only⟧.",
        "【⟦内部资料⟧】三季度规划",
        "⟦内部资料 请勿外传⟧",
        "本文⟦仅供内部使用⟧",
    )
    near_misses = (
        "internal combustion only",
        "How does an internal audit work?",
        "什么是内部控制?",
        "内部文件系统如何工作",
    )


@register
class ConfidentialMarking(PatternDetector):
    name = "confidential_marking"
    source = "Common markings: CONFIDENTIAL, PROPRIETARY, 机密, 秘密, 商业秘密 (Chinese law on state secrets, art. 14)"
    entities = (Entity("CONFIDENTIAL_MARKING", "corporate", Sensitivity.CONFIDENTIAL, "Marked confidential"),)
    prefilters = (r"(?i)confidential|proprietary", "机密|秘密|保密|機密")
    reach = (48, 48)
    expression = (
        r"密级\s?:\s?(?:机密|秘密)|(?:机密|秘密)★|(?:机密|秘密)文件[,\s]{0,2}(?:严禁|请勿|不得|切勿|禁止)(?:外传|泄露|转发|复制)"
        r"|(?i:confidential\s?[-:]\s?do\snot\s(?:distribute|share|forward))"
        rf"|{_OPEN}(?P<v>(?i:(?:strictly|company|highly|business|commercial)\s(?:private\sand\s)?confidential|confidential)"
        rf"|(?:商业|公司)?(?:机密|機密|秘密)(?:文件)?){_CLOSE}"
        r"|(?:STRICTLY |COMPANY |HIGHLY )?CONFIDENTIAL(?=[ :\-]|$|\n|\.)(?! (?:VM|COMPUTING|CLIENT))"
        r"|(?i:(?:strictly|company|highly)\sconfidential(?=\s(?:and|document|information|[-:])|[.!,\n]|$)|proprietary\sand\sconfidential"
        r"|confidential\sand\sproprietary)"
    )
    alone = 0.9
    examples = (
        "⟦CONFIDENTIAL⟧\nMerger plan",
        "[⟦Confidential⟧] board minutes",
        "⟦Confidential - do not distribute⟧",
        "【⟦机密⟧】并购方案",
        "⟦密级:机密⟧",
        "⟦商业机密⟧\n报价单",
        "本文件为⟦机密文件,严禁外传⟧",
    )
    near_misses = (
        "How do I write a confidentiality agreement?",
        "Please keep this confidential tone in mind",
        "什么是商业机密?",
        "机密计算是什么",
        "what makes a document confidential",
        "保密协议模板",
    )


@register
class SecretMarking(PatternDetector):
    name = "secret_marking"
    source = "Highest markings: TOP SECRET, 绝密 (Chinese law on state secrets, art. 14)"
    entities = (Entity("SECRET_MARKING", "corporate", Sensitivity.RESTRICTED, "Marked with the highest level"),)
    prefilters = (r"TOP.SECRET|(?i)top.secret", "绝密|絕密")
    reach = (48, 24)
    expression = (
        r"密级\s?:\s?绝密|[绝絕]密★|TOP SECRET(?:/+[A-Z]{2,10})?"
        rf"|{_OPEN}(?P<v>(?i:top\ssecret)|[绝絕]密(?:文件)?){_CLOSE}"
    )
    alone = 0.9
    examples = ("⟦绝密★⟧10年", "【⟦绝密⟧】作战计划", "⟦TOP SECRET⟧\nplan")
    near_misses = ("a top secret recipe for cookies", "这是一部绝密飞行的电影", "绝密档案怎么拍")


@register
class PrivilegeMarking(PatternDetector):
    name = "privilege_marking"
    source = "US Federal Rule of Evidence 502: attorney-client privilege and work-product protection"
    entities = (Entity("PRIVILEGE_MARKING", "legal", Sensitivity.RESTRICTED, "Legally privileged"),)
    prefilters = (r"(?i)privileged|work.product|attorney.client", "律师函件|律师特权|法律特权")
    reach = (48, 48)
    expression = (
        r"(?i:attorney[\s\-]client\s(?:privileged?\s?(?:communications?|material|&|and)|privileged)|privileged\s(?:and|&)\sconfidential"
        r"|attorney(?:'s)?\swork[\s\-]product(?=\s?[-:.\n]|$)|subject\sto\sattorney[\s\-]client\sprivilege)"
        r"|ATTORNEY[ \-]CLIENT PRIVILEGE|(?:律师|法律)特权(?:保护)?(?:文件|通信|材料)"
    )
    alone = 0.9
    examples = (
        "⟦PRIVILEGED AND CONFIDENTIAL⟧\nAdvice on the claim",
        "This e-mail is ⟦attorney-client privileged⟧.",
        "⟦Attorney Work Product⟧ - draft brief",
        "本件为⟦律师特权文件⟧",
    )
    near_misses = ("What is attorney-client privilege?", "a privileged user account", "the work product of our team")
