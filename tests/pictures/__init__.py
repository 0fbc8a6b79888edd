"""The pictures in docs/scenarios.md, drawn from the simulator's own events: `make pictures`.

__main__.py runs a market through each scenario, rows.py reads what it sends, chart.py draws that as SVG.
"""
