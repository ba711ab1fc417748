-- An interval ends on the day on which it starts.
select *
from {{ ref('pancake__working_hours') }}
where {{ pancake.clock_minute('closes_at') }} <= {{ pancake.clock_minute('opens_at') }}
    or {{ pancake.clock_minute('closes_at') }} > 1440
