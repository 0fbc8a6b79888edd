"""A reconcile whose upstream is live and holds what is wanted."""

from ingest.reconcile import Plan, Reconcile

NOTHING = Plan([], [])


def make_live(*held: str) -> Reconcile:
    """Upstream is live and holds what is wanted, at 0 s."""
    reconcile = Reconcile("stocks")
    reconcile.connected()
    reconcile.set_wanted(held, 0.0)
    while subscribe := reconcile.plan(0.0).subscribe:
        for channel in subscribe:
            reconcile.confirmed(channel, 0.0)
    return reconcile
