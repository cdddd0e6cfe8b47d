"""Harbor's trajectories of agents (ATIF, the Agent Trajectory Interchange Format, versions 1.0 to 1.7).

A step of the agent is a message of the assistant; what its observation holds follows as answers of tools. An observation of a step
without calls is what the user says next: an agent without tools sees it so.
"""

from collections.abc import Mapping
from typing import Any

from rsr.data.formats.values import kind
from rsr.errors import InputError

SPEAKERS = {"system": "system", "user": "user", "agent": "assistant"}
# About a step, not in its chat.
BESIDE = ("step_id", "timestamp", "source", "message", "model_name", "metrics", "observation", "tool_calls")


def is_trajectory(record: Mapping[str, Any]) -> bool:
    """Whether a record is one."""
    return "steps" in record and ("agent" in record or str(record.get("schema_version")).startswith("ATIF"))


def turns(record: Mapping[str, Any]) -> list[Any]:
    """The steps of a trajectory as turns of a chat.

    Raises:
        InputError: a step is none, or refers to what is elsewhere.
    """
    steps = record["steps"]
    if not isinstance(steps, list) or not steps:
        raise InputError(f"'steps' is a list of steps, not {kind(steps)}" if steps else "'steps' is empty")
    return [turn for number, step in enumerate(steps) for turn in _turns(step, f"step {number}")]


def tools(record: Mapping[str, Any]) -> Any:
    """The tools that the agent may call."""
    agent = record.get("agent")
    return agent.get("tool_definitions") if isinstance(agent, Mapping) else None


def _turns(step: Any, where: str) -> list[Any]:
    if not isinstance(step, Mapping):
        raise InputError(f"{where} is an object with 'source' and 'message', not {kind(step)}")
    speaker = SPEAKERS.get(str(step.get("source")))
    if speaker is None:
        raise InputError(f"{where} is from {step.get('source')!r}; known are {', '.join(SPEAKERS)}")
    calls = step.get("tool_calls") or []
    if not isinstance(calls, list):
        raise InputError(f"'tool_calls' of {where} is a list, not {kind(calls)}")
    said = {name: value for name, value in step.items() if name not in BESIDE}
    said |= {"role": speaker, "content": step.get("message"), "tool_calls": [_call(call) for call in calls]}
    return [said, *_observed(step.get("observation"), where, "tool" if calls else "user")]


def _call(call: Any) -> Any:
    if not isinstance(call, Mapping):
        return call
    names = {"tool_call_id": "id", "function_name": "name"}
    return {names.get(name, name): value for name, value in call.items()}


def _observed(observation: Any, where: str, speaker: str) -> list[Any]:
    results = observation.get("results") if isinstance(observation, Mapping) else observation
    if not results:
        return []
    if not isinstance(results, list) or not all(isinstance(result, Mapping) for result in results):
        raise InputError(f"the observation of {where} is an object with 'results', a list of objects")
    return [_answer(result, where, speaker) for result in results]


def _answer(result: Mapping[str, Any], where: str, speaker: str) -> dict[str, Any]:
    if result.get("content") is None and result.get("subagent_trajectory_ref"):
        raise InputError(f"the observation of {where} is another agent's trajectory, which is not read: leave it out")
    rest = {name: value for name, value in result.items() if name not in ("source_call_id", "content")}
    call = result.get("source_call_id")
    named = {"role": "tool", "tool_call_id": call} if call is not None else {"role": speaker}
    return {**rest, **named, "content": result.get("content") or ""}
