"""What both drives of a fleet work on: records of whole and floating-point numbers behind addresses."""

from __future__ import annotations

from specsim.jit import mixed_record, record_at

ENDS, MOVES, ARRIVES, STARTS = range(4)  # kinds of events, in the order in which they happen at one instant

EVENT = mixed_record("kind order request slot", "time_s")
"""What is ahead of a source, a replica or its link; infinitely far where nothing is. ``request``: that a source will
send. ``slot``: whose event it is, sources first, then replicas, then links."""

FLEET = mixed_record(
    """
    replicas num_replicas unfinished router router_seed sent pool_begin pool_end
    events winners num_slots num_sources closed
    idle_sources idle_since first_idle num_idle taken
    row num_rows no_more_rows request_ids arrival_s think_s prompt_tokens output_tokens
    class_index priorities hash_starts hashes hash_block_tokens track levels
    seed spare_request asking log most_finished most_steps most_gaps most_in_step
    num_prefill decode_first handed_over ahead num_ahead moved_blocks num_moves
    take_request send_request start_step launch_step end_step
    split ask_for_kv hand_over end_move
    """,
    "now_s request_s move_block_s move_latency_s",
)
"""All there is to a run.

unfinished           requests at each replica, [num_replicas]
router, sent         how a request finds its replica, and how many have been sent
pool_begin, pool_end replicas among which it does when it arrives: all, or the pool that has it first
events, winners      EVENT of each slot; the tree over ``num_slots``, a power of two
idle_sources         sources that may take their next request, from the ``first_idle`` on
idle_since           when each source had its last answer
taken                requests that sources have taken
row, num_rows, ..    the requests of the part at hand from the next one on, as ``workload.request.Requests`` has them;
                     ``track``, ``levels``: addresses of theirs
spare_request        REQUEST records in no use, linked by ``after``
asking               the replica whose step waits for a price from Python, or -1
most_..              rows of the log, and sequences in a step
ahead, num_ahead     events that this one brings about: a drive plans each unless its slot waits for one already
num_prefill          replicas that compute prompts, the first ones; 0 where every replica does all
decode_first         whether a decode replica gets a request before a prefill replica, as under SGLang's rules
request_s            from a client to the scheduler
handed_over          requests that the other pool's router has seen
move_block_s, .._latency_s   of the link between the pools: seconds a KV block and a transfer
moved_blocks, num_moves      so far
take_request, ..     ``transitions``, compiled apart
split, ..            ``transfers``, compiled apart; none where every replica does all
"""
fleet_at, event_at = record_at(FLEET), record_at(EVENT)
EVENT_BYTES = EVENT.itemsize
