"""A reconcile whose upstream is live and holds what is wanted."""

from ingest.reconcile import Plan, Reconcile

NOTHING = Plan([], [])


class Cleared(Reconcile):
    """Redis clears at once whatever is to be dropped, so that what the plan says is what upstream gets."""

    def plan(self, now_s: float) -> Plan:
        plan = super().plan(now_s)
        return Plan(plan.subscribe, self.dropped(plan.drop, now_s))


def make_live(*held: str) -> Reconcile:
    """Upstream is live and holds what is wanted, at 0 s."""
    reconcile = Cleared("stocks")
    reconcile.connected()
    reconcile.set_wanted(held, 0.0)
    while subscribe := reconcile.plan(0.0).subscribe:
        for channel in subscribe:
            reconcile.confirmed(channel, 0.0)
    return reconcile
