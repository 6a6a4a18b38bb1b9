import asyncio

from api.admission.pace import A_TURN, Pace


async def test_a_few_go_on_in_each_turn_of_the_loop_first_come_first_served() -> None:
    pace, gone = Pace(), list[int]()

    async def refuse(number: int) -> None:
        await pace.turn()
        gone.append(number)

    refusing = [asyncio.create_task(refuse(number)) for number in range(10 * A_TURN)]
    before = 0
    while len(gone) < len(refusing):
        await asyncio.sleep(0)
        assert len(gone) - before <= A_TURN
        before = len(gone)
    assert gone == list(range(10 * A_TURN))


async def test_who_does_not_wait_any_more_holds_up_nobody() -> None:
    pace = Pace()
    waiting = [asyncio.create_task(pace.turn()) for _ in range(3 * A_TURN)]
    await asyncio.sleep(0)
    for one in waiting[:-1]:
        one.cancel()
    await waiting[-1]
    await pace.turn()
