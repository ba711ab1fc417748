"""Prints answers from a DuckDB file of the models.

`python -m scripts.answers output/pancake.duckdb`
"""

from __future__ import annotations

import sys

import duckdb

from scripts.summary import show

# The schema is named with its database, since both have one name.
ANSWERS = {
    "How long customers of private messages wait for an answer": """
select
    coalesce(pages.page_name, waits.page_id) as page,
    count(waits.answered_at) as answered,
    round(median(case when waits.answered_at is not null then waits.wait_minutes end), 1)
        as "median minutes",
    count(*) - count(waits.answered_at) as "waiting now"
from pancake.pancake.pancake__response_times as waits
left join pancake.pancake.stg_pancake__pages as pages on pages.page_id = waits.page_id
where waits.conversation_type = 'INBOX'
group by 1
order by 1
""",
    "Who says how much": """
select
    coalesce(pages.page_name, messages.page_id) as page,
    sum(case when messages.sender_kind = 'customer' then 1 else 0 end) as customers,
    sum(case when messages.sender_kind = 'staff' then 1 else 0 end) as staff,
    sum(case when messages.sender_kind = 'automation' then 1 else 0 end) as automation,
    count(*) as messages
from pancake.pancake.pancake__messages as messages
left join pancake.pancake.stg_pancake__pages as pages on pages.page_id = messages.page_id
group by 1
order by 1
""",
}


def main(database: str) -> None:
    """Print the answers."""
    with duckdb.connect(database, read_only=True) as connection:
        for title, query in ANSWERS.items():
            found = connection.execute(query)
            print(f"\n{title}:")
            rows = [tuple("" if cell is None else cell for cell in row) for row in found.fetchall()]
            show([tuple(column[0] for column in found.description or ()), *rows])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "output/pancake.duckdb")
