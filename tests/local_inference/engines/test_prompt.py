from __future__ import annotations

from local_inference.engines.base import GenerationRequest, Message, ToolCall, ToolSchema
from local_inference.engines.prompt import DEFAULT_SYSTEM, turns


def test_a_conversation_without_a_system_turn_gets_the_models_own() -> None:
    assert turns(GenerationRequest(messages=(Message("user", "hi"),))) == [("system", DEFAULT_SYSTEM), ("user", "hi")]


def test_tools_and_format_join_the_callers_system_turn() -> None:
    request = GenerationRequest(
        messages=(Message("system", "be brief"), Message("user", "hi")),
        tools=(ToolSchema("weather", "of a city", {"type": "object"}),),
        response_format="json_object",
    )
    (role, system), user = turns(request)
    assert (role, user) == ("system", ("user", "hi"))
    assert system.startswith("be brief\n\n")
    assert '{"name":"weather","description":"of a city","parameters":{"type":"object"}}' in system
    assert "JSON object" in system


def test_calls_and_their_results_become_turns_of_text() -> None:
    request = GenerationRequest(
        messages=(
            Message("user", "weather?"),
            Message("assistant", "", (ToolCall("c", "weather", '{"city": "Paris"}'),)),
            Message("tool", "sunny"),
        )
    )
    assert turns(request)[2:] == [
        ("assistant", '{"name": "weather", "arguments": {"city": "Paris"}}'),
        ("user", "Result of the function:\nsunny"),
    ]
