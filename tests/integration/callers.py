"""One process of many callers: reads what to send from standard input, prints the answers.

A first line says that it is ready; it begins when it reads a second one.
"""

import asyncio
import json
import sys

import httpx


async def main() -> None:
    wanted = json.loads(sys.stdin.readline())
    limits = httpx.Limits(max_connections=len(wanted["calls"]))
    async with httpx.AsyncClient(trust_env=False, timeout=60, limits=limits) as http:
        print("ready", flush=True)
        sys.stdin.readline()

        async def call(key: str, body: dict) -> list:
            answer = await http.post(wanted["url"], json=body, headers={"X-API-Key": key})
            return [answer.status_code, answer.json()]

        print(json.dumps(await asyncio.gather(*(call(*one) for one in wanted["calls"]))))


if __name__ == "__main__":
    asyncio.run(main())
