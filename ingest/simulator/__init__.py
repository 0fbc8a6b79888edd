"""A market that needs no key and never closes: events that look, count and behave as Polygon's.

The way of an event: clock.py tells the simulated time (hours.py knows the exchange's), feed.py steps market.py along,
and the frames go where Polygon's would.  market.py does everything that happens on whole seconds and asks
director.py what the scenario (scenario.py) has in store: factors, jumps, limit states, halts.  limits.py keeps the
price bands (bands.py has their rule), auctions.py opens, closes and reopens.  In between, flow.py streams quotes and
trades from draws.py's random numbers: a stock.py is one symbol's price and conditions, listing.py where it is listed,
sizes.py how much is traded and shown.  bars.py adds up what was traded, prices.py writes and rounds prices, wire.py
writes all other events.  saved.py is what a market takes from one run into another.

A scenario is read by scenario_file.py from scenarios/ or a user's file; scenario_text.py judges the text and
toml_lines.py finds the line of a mistake.
"""
