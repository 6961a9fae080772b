"""Record, insurance and licence numbers of health care, and diagnosis codes."""

from __future__ import annotations

import re

from classifiers.base import Entity, NumberDetector, PatternDetector, Verdict, register
from classifiers.label import Sensitivity

_SAYS = r"(?i:\s?(?:is|was|为|是|no\.?|num|number|#|:|=|\"))*\s{0,4}\"?"
_CODE = r"(?P<v>(?=[A-Za-z\-]{0,6}\d)[A-Za-z0-9](?:[A-Za-z0-9\-]{2,18})[A-Za-z0-9])(?![0-9A-Za-z])"


def _record(entity_type: str, title: str, sensitivity: Sensitivity = Sensitivity.RESTRICTED) -> Entity:
    return Entity(entity_type, "phi", sensitivity, title)


@register
class MedicalRecord(PatternDetector):
    name = "medical_record"
    source = "45 CFR 164.514(b)(2)(i)(H), medical record numbers: each hospital's own form, told by the words before it"
    entities = (_record("MEDICAL_RECORD", "Medical record number"),)
    prefilters = (
        r"(?i)(?:^|[^A-Za-z])(?:mrn|emr|(?:medical|patient).record|patient.{0,2}(?:id|no|num)|chart.(?:no|num))",
        "病历|病例号|病案|住院号|住院编号|门诊号|就诊号|就诊卡|挂号单|患者编号|患者ID|床位号|影像号|检查号|检验号",
    )
    reach = (16, 72)
    expression = (
        r"(?:(?i:(?<![A-Za-z])(?:mrn|emr\s?id|(?:medical|patient)[\s_](?:record|rec)|patient[\s_-]?(?:id|no|number|num)"
        r"|chart\s(?:number|no|num)))"
        r"|(?:电子)?病历(?:号码?|编号|ID)|病例号|病案(?:号|编号)|住院(?:号|编号)|门诊号|就诊(?:号|卡号)|挂号单号|患者(?:编号|ID)|影像号|检[查验]号)"
        + _SAYS
        + _CODE
    )
    alone = 0.9
    examples = (
        "MRN: ⟦00482913⟧",
        "medical record number is ⟦A-1048823⟧",
        "患者住院号:⟦ZY20230815⟧,请总结",
        "病历号⟦0039281⟧",
        "门诊号 ⟦M202300471⟧",
        '{"patient_id": "⟦P-582910⟧"}',
    )
    near_misses = (
        "What is an MRN?",
        "medical record retention is 7 years",
        "病历怎么写?",
        "住院号在哪里看",
        "patient no longer responds",
        "patient number is growing",
    )

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        return Verdict.UNCHECKED if sum(map(str.isdigit, value)) >= 4 else Verdict.PLACEHOLDER


@register
class UkNhsNumber(NumberDetector):
    name = "uk_nhs_number"
    source = "NHS Data Dictionary: ten digits, weighted check digit modulo 11"
    entities = (_record("UK_NHS_NUMBER", "NHS number"),)
    prefilters = (r"(?:^|[^0-9A-Za-z])[0-9]{3}[ \-]?[0-9]{3}[ \-]?[0-9]{4}(?:[^0-9A-Za-z]|$)",)
    reach = (14, 2)
    expression = r"(?<![0-9A-Za-z.\-])\d{3}([ \-]?)\d{3}\1\d{4}(?![0-9A-Za-z]|-\d)"
    words = ("nhs", "nhs number", "nhs no", "patient")
    alone = 0.3
    in_context = 0.95
    failed_in_context = 0.4
    stdnum = "gb.nhs"
    examples = ("NHS number ⟦943 476 5870⟧", "NHS no: ⟦9434765870⟧")
    near_misses = ("call 943 476 5870", "NHS order 943 476 5871")


@register
class InsuranceMember(PatternDetector):
    name = "insurance_member"
    source = "45 CFR 164.514(b)(2)(i)(I), health plan beneficiary numbers; Chinese medical insurance card numbers"
    entities = (_record("HEALTH_INSURANCE_ID", "Health insurance number"),)
    prefilters = (
        r"(?i)member.{0,2}(?:id|no|num)|subscriber|medicare|medicaid|beneficiary|health.plan|policy.holder|group.number",
        "医保|社保|医疗保险|参保|保单",
    )
    reach = (16, 80)
    expression = (
        r"(?:(?i:(?<![A-Za-z])(?:(?:insurance|health\splan|plan)?\s?(?:member|subscriber|beneficiary)[\s_-]?(?:id|no|number|num)"
        r"|medicare(?:\s(?:id|no|number|beneficiary\sidentifier))?|medicaid\s(?:id|no|number)))"
        r"|(?:医保|社保|医疗保险|社会保障)(?:卡)?(?:号码?|编号|账号|电脑号)|参保(?:号|编号)|保单(?:号码?|编号))"
        + _SAYS
        + _CODE
    )
    alone = 0.85
    examples = (
        "Insurance member ID: ⟦XQH882910447⟧",
        "医保卡号:⟦3301000987654⟧",
        "medicare number ⟦1EG4-TE5-MK73⟧",
        "参保号 ⟦A00982311⟧",
    )
    near_misses = ("medicare part B costs", "the member is 12345 years", "医保怎么报销", "Medicare 2024 plans")

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        return Verdict.UNCHECKED if sum(map(str.isdigit, value)) >= 3 and len(value) >= 6 else Verdict.PLACEHOLDER


@register
class DeaNumber(PatternDetector):
    name = "us_dea"
    source = "21 CFR 1301: DEA registration, registrant type, initial, six digits and a check digit"
    entities = (_record("US_DEA", "DEA registration number", Sensitivity.CONFIDENTIAL),)
    prefilters = (r"(?:^|[^0-9A-Za-z])[ABCDEFGHJKLMPRSTUX][A-Z9][0-9]{7}(?:[^0-9A-Za-z]|$)",)
    reach = (11, 2)
    expression = r"(?<![0-9A-Za-z])[ABCDEFGHJKLMPRSTUX][A-Z9]\d{7}(?![0-9A-Za-z])"
    words = ("dea", "dea number", "prescriber", "registrant")
    alone = 0.4
    in_context = 0.95
    heeds_decoys = True
    examples = ("DEA number ⟦AB1234563⟧", "DEA: ⟦BS1234567⟧")
    near_misses = ("part AB1234563", "flight AB1234567")

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        digits = [int(digit) for digit in value[2:]]
        expected = (digits[0] + digits[2] + digits[4] + 2 * (digits[1] + digits[3] + digits[5])) % 10
        return Verdict.VALID if digits[6] == expected else Verdict.FAILED


@register
class NationalProviderId(NumberDetector):
    name = "us_npi"
    source = "45 CFR 162.406: ten digits, Luhn with the prefix 80840"
    entities = (_record("US_NPI", "US national provider identifier", Sensitivity.INTERNAL),)
    prefilters = (r"(?i)(?:^|[^A-Za-z])npi|provider.{0,2}id",)
    reach = (16, 40)
    expression = r"(?<![0-9A-Za-z.\-])[12]\d{9}(?![0-9A-Za-z]|-\d)"
    words = ("npi", "national provider", "provider id")
    alone = 0.2
    in_context = 0.9
    failed_in_context = 0.4
    stdnum = "luhn"
    examples = ("NPI ⟦1234567893⟧",)
    near_misses = ("NPI code 1234567890", "npm 1234567893")

    def check(self, value: str, found: re.Match[str]) -> Verdict:
        return Verdict.VALID if self.is_valid("80840" + value) else Verdict.FAILED


@register
class Icd10(PatternDetector):
    name = "icd10"
    source = "WHO ICD-10: letter, two digits, optional subdivision; counts beside a word of diagnosis only"
    entities = (_record("DIAGNOSIS_CODE", "Diagnosis code", Sensitivity.CONFIDENTIAL),)
    prefilters = (r"(?i)icd|diagnos|(?:^|[^A-Za-z])dx(?:[^A-Za-z]|$)", "诊断")
    reach = (24, 64)
    expression = r"(?<![0-9A-Za-z.\-])[A-TV-Z]\d[0-9AB](?:\.[0-9A-TV-Z]{1,4})?(?![0-9A-Za-z]|\.\d|-\d)"
    words = ("icd", "icd-10", "icd10", "icd 10", "diagnosis", "diagnosed", "diagnoses", "dx", "诊断")
    alone = 0.2
    in_context = 0.75
    examples = ("diagnosis ⟦E11.9⟧", "诊断:⟦I10⟧ 高血压", "Dx: ⟦F32.1⟧")
    near_misses = ("seat B12 on the plane", "What does ICD-10 mean?", "vitamin B12")
