"""How many servers an offered load needs: the Erlang C formula (M/M/c)."""

from typing import Final

# A caller should wait for its turn for a fifth of the time its login takes, on the average.
WAIT_SHARE: Final = 0.2
MOST: Final = 200


def waiting_share(load: float, servers: int) -> float:
    """Return the mean wait in units of the mean service time, inf where the queue only grows.

    `load` is arrivals a second times seconds a service (erlangs). Erlang B by its recursion, then
    C; A. K. Erlang, "Solution of some problems in the theory of probabilities", 1917.
    """
    if load >= servers:
        return float("inf")
    if load <= 0:
        return 0.0
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    waits = blocked / (1 - load / servers * (1 - blocked))
    return waits / (servers - load)


def servers_for(load: float, *, wait_share: float = WAIT_SHARE) -> int:
    """Return the smallest number of servers whose mean wait is at most that share; 200 at most."""
    for servers in range(1, MOST):
        if waiting_share(load, servers) <= wait_share:
            return servers
    return MOST
