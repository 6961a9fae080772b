"""The on-prem node: engines, scheduler, and one way in.

    HttpRequest ──▶ Node.handle ──▶ chat (read) ──▶ Scheduler (a slot) ──▶ Engine (deltas) ──▶ answer (written) ──▶ HttpResponse

``RemoteNode`` stands in its place where the operator runs a model server of their own. Nothing here imports torch
before a model is loaded.
"""
