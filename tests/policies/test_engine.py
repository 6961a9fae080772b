"""Law 1, strictest wins, as properties of the engine; and the meet, case by case."""

from __future__ import annotations

import datetime
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.label import Finding, Label, Sensitivity, Unscanned
from policies.decision import ONPREM, CallFacts, Decision, Edit, Route
from policies.engine import PolicyEngine
from policies.model import (
    SHORTHANDS,
    All,
    Always,
    Any_,
    CategoryPresent,
    Condition,
    FindingPresent,
    KindPresent,
    ModelLike,
    Outcome,
    Policy,
    PurposeAmong,
    Recipient,
    Rule,
    SensitivityAtLeast,
    SizeAtLeast,
    TenantAmong,
    Waiver,
    micros,
)
from policies.vocabulary import EntityFacts, Vocabulary

NOW = datetime.datetime(2026, 6, 15, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
TYPES = {
    "EMAIL": EntityFacts("pii", Sensitivity.CONFIDENTIAL),
    "US_SSN": EntityFacts("pii", Sensitivity.RESTRICTED),
    "MEDICAL_RECORD": EntityFacts("phi", Sensitivity.RESTRICTED),
    "API_KEY": EntityFacts("credential", Sensitivity.RESTRICTED),
}
CATEGORIES = ("pii", "phi", "pci", "credential")
VOCABULARY = Vocabulary(TYPES, frozenset(CATEGORIES))
OUTSIDE = ("alpha", "beta")
NOTHING_FOUND = Label()


def recipient(name: str, expires: datetime.datetime = NOW + DAY) -> Recipient:
    return Recipient(name, f"{name} Ltd", "DE", ("eu-1",), "standard contractual clauses", 0, False, expires)


def engine(
    *rules: Rule,
    default: str = "cloud",
    exceptions: tuple[Waiver, ...] = (),
    recipients: tuple[Recipient, ...] = tuple(map(recipient, OUTSIDE)),
) -> PolicyEngine:
    policy = Policy("trial", "1", "", SHORTHANDS[default], rules, exceptions, recipients, frozenset())
    return PolicyEngine(policy, version="trial@1", vocabulary=VOCABULARY)


def rule(name: str, when: Condition, outcome: Outcome | str = "onprem", **more: object) -> Rule:
    made = SHORTHANDS[outcome] if isinstance(outcome, str) else outcome
    return Rule(name, f"Title of {name}.", when, made, **more)  # type: ignore[arg-type]


def finding(entity_type: str, score: float = 0.9) -> Finding:
    return Finding(entity_type, 0, 4, score, "test")


def label_of(*entity_types: str) -> Label:
    """What a classifier says of findings of these types."""
    facts = [TYPES[name] for name in entity_types]
    return Label(
        sensitivity=max((each.sensitivity for each in facts), default=Sensitivity.PUBLIC),
        categories=frozenset(each.category for each in facts),
        findings=tuple(map(finding, entity_types)),
    )


def decide(
    policy: PolicyEngine, label: Label = NOTHING_FOUND, call: CallFacts | None = None, at: datetime.datetime = NOW
) -> Decision:
    return policy.decide(label, call or CallFacts("acme"), decision_id="dec-1", now_us=micros(at))


# Strategies

some_types = st.sets(st.sampled_from(sorted(TYPES)), min_size=1).map(frozenset)
atoms: st.SearchStrategy[Condition] = st.one_of(
    st.just(Always()),
    st.builds(FindingPresent, some_types, st.integers(1, 3), st.sampled_from([0.0, 0.3, 0.8])),
    st.builds(CategoryPresent, st.sets(st.sampled_from(CATEGORIES), min_size=1).map(frozenset)),
    st.builds(SensitivityAtLeast, st.sampled_from(Sensitivity)),
    st.builds(TenantAmong, st.sets(st.sampled_from(["acme", "other"]), min_size=1).map(frozenset)),
    st.builds(ModelLike, st.sets(st.sampled_from(["gpt-*", "gpt-4o", "q?en", "*"]), min_size=1).map(frozenset)),
    st.builds(KindPresent, st.sets(st.sampled_from(["text", "binary"]), min_size=1).map(frozenset)),
    st.builds(PurposeAmong, st.sets(st.sampled_from(["support", "research"]), min_size=1).map(frozenset)),
    st.builds(SizeAtLeast, st.integers(0, 50)),
)
trees = st.recursive(
    atoms,
    lambda parts: st.builds(
        lambda kind, some: kind(tuple(some)), st.sampled_from([All, Any_]), st.lists(parts, min_size=1, max_size=3)
    ),
    max_leaves=6,
)
outcomes = st.one_of(
    st.sampled_from([SHORTHANDS["cloud"], SHORTHANDS["onprem"], SHORTHANDS["reject"]]),
    st.builds(
        Outcome,
        st.none() | st.sets(st.sampled_from(OUTSIDE)).map(lambda some: frozenset(some) | {ONPREM}),
        st.dictionaries(st.sampled_from(sorted(TYPES)), st.sampled_from(Edit), max_size=3),
    ),
)
rule_lists = st.lists(
    st.tuples(trees, outcomes, st.sets(st.sampled_from(["log-purpose", "notify"])).map(frozenset)), max_size=6
).map(lambda parts: [rule(f"r{i}", when, made, obligations=duties) for i, (when, made, duties) in enumerate(parts)])
findings = st.builds(finding, st.sampled_from(sorted(TYPES)), st.floats(0, 1))
labels = st.builds(
    Label,
    sensitivity=st.sampled_from(Sensitivity),
    categories=st.sets(st.sampled_from(CATEGORIES)).map(frozenset),
    findings=st.lists(findings, max_size=4).map(tuple),
    unscanned=st.sampled_from([(), (), (), (Unscanned("/x", "image"),)]),
    unverified_language=st.sampled_from([False, False, False, True]),
)
calls = st.builds(
    CallFacts,
    tenant=st.sampled_from(["acme", "other"]),
    model=st.sampled_from(["", "gpt-4o", "GPT-4o", "qwen"]),
    purpose=st.none() | st.sampled_from(["support", "research", "Research"]),
    sensitivity=st.sampled_from([Sensitivity.PUBLIC, Sensitivity.PUBLIC, Sensitivity.RESTRICTED]),
    kinds=st.sets(st.sampled_from(["text", "binary"])).map(frozenset),
    size_bytes=st.integers(0, 60),
)


@st.composite
def policies(draw: st.DrawFn) -> PolicyEngine:
    rules = draw(rule_lists)
    exceptions = (
        draw(st.lists(st.tuples(st.sampled_from(rules), st.sampled_from(["acme", "other"]), some_types), max_size=3))
        if rules
        else []
    )
    waivers = tuple(
        Waiver(f"w{i}", each.id, tenant, ("a", "b"), "why", NOW - DAY, NOW + DAY, allowed)
        for i, (each, tenant, allowed) in enumerate(exceptions)
    )
    return engine(*rules, default=draw(st.sampled_from(["cloud", "onprem"])), exceptions=waivers)


def assert_no_looser(after: Decision, before: Decision) -> None:
    """Recipients only fewer, edits only stricter, obligations only more."""
    assert after.recipients <= before.recipients
    assert after.obligations >= before.obligations
    for entity_type, edit in before.edits.items():
        assert after.edits[entity_type].strictness >= edit.strictness
    assert after.route >= before.route
    assert after.sensitivity >= before.sensitivity


@given(policies(), labels, calls, findings)
def test_adding_a_finding_never_loosens(policy: PolicyEngine, label: Label, call: CallFacts, extra: Finding) -> None:
    more = msgspec.structs.replace(label, findings=(*label.findings, extra))
    assert_no_looser(decide(policy, more, call), decide(policy, label, call))


@given(policies(), labels, calls, st.sampled_from(CATEGORIES))
def test_adding_a_category_never_loosens(policy: PolicyEngine, label: Label, call: CallFacts, extra: str) -> None:
    assert_no_looser(decide(policy, label.joined(categories=[extra]), call), decide(policy, label, call))


@given(policies(), labels, calls, st.sampled_from(Sensitivity))
def test_raising_sensitivity_never_loosens(
    policy: PolicyEngine, label: Label, call: CallFacts, level: Sensitivity
) -> None:
    assert_no_looser(decide(policy, label.joined(sensitivity=level), call), decide(policy, label, call))


@given(policies(), labels, calls, st.floats(0, 1))
def test_raising_scores_never_loosens(policy: PolicyEngine, label: Label, call: CallFacts, floor: float) -> None:
    surer = tuple(msgspec.structs.replace(each, score=max(each.score, floor)) for each in label.findings)
    assert_no_looser(decide(policy, msgspec.structs.replace(label, findings=surer), call), decide(policy, label, call))


@given(policies(), labels, calls)
def test_content_that_cannot_be_scanned_never_loosens(policy: PolicyEngine, label: Label, call: CallFacts) -> None:
    unknown = label.joined(unscanned=[Unscanned("/messages/0", "image")])
    assert_no_looser(decide(policy, unknown, call), decide(policy, label, call))


@given(
    policies(), labels, calls, st.sampled_from(Sensitivity), st.sampled_from(["support", "research"]),
    st.sampled_from(["text", "binary"]), st.integers(0, 60),
)  # fmt: skip
def test_a_callers_hint_never_loosens(
    policy: PolicyEngine, label: Label, call: CallFacts, level: Sensitivity, purpose: str, kind: str, size: int
) -> None:
    hinted = msgspec.structs.replace(
        call,
        sensitivity=max(level, call.sensitivity),
        purpose=call.purpose or purpose,
        kinds=call.kinds | {kind},
        size_bytes=max(size, call.size_bytes),
    )
    assert_no_looser(decide(policy, label, hinted), decide(policy, label, call))


@given(rule_lists, trees, outcomes, labels, calls)
def test_adding_a_rule_never_loosens(
    rules: list[Rule], when: Condition, outcome: Outcome, label: Label, call: CallFacts
) -> None:
    assert_no_looser(
        decide(engine(*rules, rule("extra", when, outcome)), label, call), decide(engine(*rules), label, call)
    )


@given(policies(), labels, calls, st.randoms(use_true_random=False))
def test_order_never_matters(policy: PolicyEngine, label: Label, call: CallFacts, shuffler: random.Random) -> None:
    def shuffled(things: tuple[object, ...]) -> tuple[object, ...]:
        return tuple(shuffler.sample(things, len(things)))

    reordered = msgspec.structs.replace(
        policy.policy,
        rules=shuffled(policy.policy.rules),
        exceptions=shuffled(policy.policy.exceptions),
        recipients=shuffled(policy.policy.recipients),
    )
    other = PolicyEngine(reordered, version=policy.version, vocabulary=VOCABULARY)
    mixed = msgspec.structs.replace(label, findings=shuffled(label.findings))
    assert decide(other, mixed, call) == decide(policy, label, call)


def holds(condition: Condition, label: Label, call: CallFacts, sensitivity: Sensitivity) -> bool:
    """The language's meaning, written down a second time and without any index."""
    match condition:
        case Always():
            return True
        case All(parts=parts):
            return all(holds(part, label, call, sensitivity) for part in parts)
        case Any_(parts=parts):
            return any(holds(part, label, call, sensitivity) for part in parts)
        case FindingPresent(types=types, min_count=count, min_score=score):
            return sum(each.entity_type in types and each.score >= score for each in label.findings) >= count
        case CategoryPresent(categories=names):
            return bool(names & label.categories)
        case SensitivityAtLeast(level=level):
            return sensitivity >= level
        case TenantAmong(tenants=names):
            return call.tenant in names
        case ModelLike(globs=globs):
            model = call.model.lower()
            return any(
                {"gpt-*": model.startswith("gpt-"), "gpt-4o": model == "gpt-4o", "q?en": model == "qwen", "*": True}[
                    glob
                ]
                for glob in globs
            )
        case KindPresent(kinds=names):
            return bool(names & call.kinds)
        case PurposeAmong(purposes=names):
            return (call.purpose or "").lower() in names
        case SizeAtLeast(size_bytes=size):
            return call.size_bytes >= size
    raise AssertionError(condition)


@settings(max_examples=400)
@given(rule_lists, labels, calls)
def test_the_compiled_rules_match_as_the_language_says(rules: list[Rule], label: Label, call: CallFacts) -> None:
    decision = decide(engine(*rules), label, call)
    expected = {each.id for each in rules if holds(each.when, label, call, decision.sensitivity)}
    assert set(decision.rules) - {"floor:unscanned"} == expected


@pytest.mark.parametrize(
    ("entity_types", "score", "matches"),
    [
        (["EMAIL"], 0.9, False),
        (["EMAIL", "EMAIL"], 0.9, True),
        (["EMAIL", "US_SSN"], 0.9, True),
        (["EMAIL", "US_SSN", "EMAIL"], 0.9, True),
        (["EMAIL", "EMAIL"], 0.5, True),
        (["EMAIL", "EMAIL"], 0.49, False),
        (["EMAIL", "API_KEY"], 0.9, False),
    ],
)
def test_findings_of_all_named_types_count_together(entity_types: list[str], score: float, matches: bool) -> None:
    condition = FindingPresent(frozenset({"EMAIL", "US_SSN"}), min_count=2, min_score=0.5)
    label = Label(findings=tuple(finding(name, score) for name in entity_types))
    assert decide(engine(rule("r", condition)), label).rules == (("r",) if matches else ())


# The meet, case by case


def test_no_rule_leaves_the_default() -> None:
    assert decide(engine()).recipients == {ONPREM, *OUTSIDE}
    assert decide(engine()).route is Route.CLOUD
    assert decide(engine(default="onprem")).route is Route.ONPREM


def test_recipients_are_intersected() -> None:
    policy = engine(
        rule("only-alpha", Always(), Outcome(frozenset({ONPREM, "alpha"}))), rule("only-beta", Always(), Outcome(frozenset({ONPREM, "beta"})))
    )  # fmt: skip
    assert decide(policy).recipients == {ONPREM}


def test_rules_never_widen_the_default() -> None:
    assert decide(engine(rule("out", Always(), "cloud"), default="onprem")).route is Route.ONPREM


def test_reject_wins_over_everything_and_says_why() -> None:
    policy = engine(rule("b-no", Always(), "reject", remedy="Ask the officer."), rule("a-yes", Always(), "cloud"))
    decision = decide(policy)
    assert decision.route is Route.REJECT
    assert decision.reason == "Title of b-no. Ask the officer."
    assert decision.rules == ("a-yes", "b-no")


def test_the_strictest_edit_of_each_found_type_stands() -> None:
    policy = engine(
        rule("mask", Always(), Outcome(None, {"EMAIL": Edit.MASK, "US_SSN": Edit.REDACT})),
        rule("redact", CategoryPresent(frozenset({"pii"})), Outcome(None, {"EMAIL": Edit.REDACT})),
    )
    decision = decide(policy, label_of("EMAIL"))
    assert decision.edits == {"EMAIL": Edit.REDACT}
    assert decision.route is Route.CLOUD_PSEUDONYMISED


def test_an_edit_of_what_was_not_found_leaves_the_route_alone() -> None:
    policy = engine(rule("mask", Always(), Outcome(None, {"EMAIL": Edit.MASK})))
    assert decide(policy).route is Route.CLOUD


def test_obligations_are_united() -> None:
    policy = engine(
        rule("a", Always(), "cloud", obligations=frozenset({"notify"})),
        rule("b", Always(), "cloud", obligations=frozenset({"log-purpose"})),
    )
    assert decide(policy).obligations == {"notify", "log-purpose"}


def test_an_expired_recipient_is_no_route() -> None:
    policy = engine(recipients=(recipient("alpha", NOW), recipient("beta", NOW + DAY)))
    assert decide(policy).recipients == {ONPREM, "beta"}
    assert decide(policy, at=NOW + DAY).recipients == {ONPREM}


@pytest.mark.parametrize(
    "label", [Label(unscanned=(Unscanned("", "policy_lease_lost"),)), Label(unverified_language=True)], ids=["unscanned", "language"]
)  # fmt: skip
def test_the_floor_stands_under_a_policy_that_allows_everything(label: Label) -> None:
    decision = decide(engine(rule("all-out", Always(), "cloud")), label)
    assert decision.recipients == {ONPREM}
    assert decision.sensitivity is Sensitivity.RESTRICTED
    assert decision.rules == ("all-out", "floor:unscanned")


def test_two_hundred_rules_and_many_recipients_are_decided_alike() -> None:
    rules = [rule(f"r{i:03}", SizeAtLeast(i), Outcome(frozenset({ONPREM, f"p{i}", "p0"}))) for i in range(200)]
    policy = engine(*rules, recipients=tuple(recipient(f"p{i}") for i in range(100)))
    decision = decide(policy, call=CallFacts("acme", size_bytes=150))
    assert decision.recipients == {ONPREM, "p0"}
    assert decision.rules == tuple(f"r{i:03}" for i in range(151))


# Exceptions: the only way down

STAYS = rule("confidential-stays", SensitivityAtLeast(Sensitivity.CONFIDENTIAL))


def waiver(**changes: object) -> Waiver:
    made = Waiver("w", "confidential-stays", "acme", ("ana", "bo"), "pilot", NOW - DAY, NOW + DAY, frozenset({"EMAIL"}))
    return msgspec.structs.replace(made, **changes)


def test_an_exception_holds_its_rule_back_and_shows_it() -> None:
    decision = decide(engine(STAYS, exceptions=(waiver(),)), label_of("EMAIL"))
    assert decision.route is Route.CLOUD
    assert decision.rules == ("exception:w",)


def test_an_exception_holds_back_its_one_rule_only() -> None:
    policy = engine(STAYS, rule("pii-stays", CategoryPresent(frozenset({"pii"}))), exceptions=(waiver(),))
    decision = decide(policy, label_of("EMAIL"))
    assert decision.route is Route.ONPREM
    assert decision.rules == ("pii-stays", "exception:w")


def test_an_exception_that_was_not_needed_is_not_shown() -> None:
    assert decide(engine(STAYS, exceptions=(waiver(),)), Label()).rules == ()


@pytest.mark.parametrize(
    ("label", "call", "at"),
    [
        pytest.param(label_of("EMAIL"), CallFacts("other"), NOW, id="another-tenant"),
        pytest.param(label_of("EMAIL"), CallFacts("acme"), NOW + DAY, id="expired"),
        pytest.param(label_of("EMAIL"), CallFacts("acme"), NOW - 2 * DAY, id="not-yet"),
        pytest.param(label_of("EMAIL", "US_SSN"), CallFacts("acme"), NOW, id="another-finding"),
        pytest.param(label_of("EMAIL").joined(categories=["credential"]), CallFacts("acme"), NOW, id="credential"),
        pytest.param(label_of("EMAIL").joined(categories=["phi"]), CallFacts("acme"), NOW, id="tainted-category"),
        pytest.param(label_of().joined(sensitivity=Sensitivity.RESTRICTED), CallFacts("acme"), NOW, id="tainted-level"),
        pytest.param(label_of("EMAIL").joined(unscanned=[Unscanned("/0", "image")]), CallFacts("acme"), NOW, id="unscanned"),
        pytest.param(msgspec.structs.replace(label_of("EMAIL"), unverified_language=True), CallFacts("acme"), NOW, id="language"),
        pytest.param(label_of("EMAIL"), CallFacts("acme", sensitivity=Sensitivity.RESTRICTED), NOW, id="callers-hint"),
    ],
)  # fmt: skip
def test_an_exception_does_not_apply_to(label: Label, call: CallFacts, at: datetime.datetime) -> None:
    policy = engine(STAYS, exceptions=(waiver(),), recipients=(recipient("alpha", NOW + 9 * DAY),))
    decision = decide(policy, label, call, at)
    assert decision.route is Route.ONPREM
    assert "exception:w" not in decision.rules


def test_an_exception_holds_back_no_refusal_of_what_cannot_be_scanned() -> None:
    refused = rule("confidential-stays", SensitivityAtLeast(Sensitivity.CONFIDENTIAL), "reject")
    policy = engine(refused, exceptions=(waiver(allowed=frozenset({"US_SSN"})),))
    label = label_of("US_SSN")
    assert decide(policy, label).route is Route.CLOUD
    assert decide(policy, label.joined(unscanned=[Unscanned("/0", "image")])).route is Route.REJECT


def test_no_exception_covers_a_credential_even_if_it_names_one() -> None:
    policy = engine(STAYS, exceptions=(waiver(allowed=frozenset({"API_KEY"})),))
    assert decide(policy, label_of("API_KEY")).route is Route.ONPREM
