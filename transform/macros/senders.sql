{#
  Who sent a message. The counts below are of 227 recorded messages: six Facebook conversations and
  a TikTok comment. `pancake__sender_check` shows the same counts for your own pages.

  `m` is a row with the fields of the message's sender (`sender_id`, `uid`, `admin_id`, `admin_name`,
  `flow_id`, `app_id`, `is_automated`, `ai_generated`, all as text), its `kind` and `sent_at`, and
  times of messages around it: `customer_before_at` and `click_before_at` (the last message of the
  customer, the last ad click), `prompted_at` (the later of these two), `customer_after_at` (the next
  message of the customer).
#}
{% macro sender_kind(m) -%}
    {% set seconds = var('pancake__auto_reply_seconds', 5) %}
    case
        -- The 4 ad clicks have the page as their sender, but nobody wrote them. The 16 recorded messages with a
        -- reaction also have a text or a file: they count for their sender.
        when {{ m }}.kind in ('ad_click', 'system', 'reaction') then 'nobody'
        -- The 80 messages of customers. 74 of them have `ai_generated` false, so that false says nothing.
        when {{ m }}.sender_id <> {{ m }}.page_id then 'customer'
        -- The 6 messages of Botcake flows have `flow_id` and `app_id`; their `admin_id` and `admin_name` are those of
        -- the page. `is_automated` and `ai_generated` true come from Pancake's API reference.
        when {{ m }}.flow_id is not null or {{ m }}.is_automated = 'true' or {{ m }}.ai_generated = 'true'
            or {{ m }}.admin_id = {{ m }}.page_id then 'automation'
        {%- if var('pancake__automation_app_ids', []) %}
        when {{ m }}.app_id in ('{{ var("pancake__automation_app_ids") | join("', '") }}') then 'automation'
        {%- endif %}
        -- 121 messages with `uid`, and 4 order forms with `admin_name` only. (`app_id` does not count: the channel's own
        -- inbox for staff also has one.)
        when coalesce({{ m }}.uid, {{ m }}.admin_id, {{ m }}.admin_name) is not null then 'staff'
        when {{ m }}.sender_id is null then null
        -- The 12 messages without these fields are automatic messages of the channel. 7 come 1 to 5 seconds after a
        -- customer's message or an ad click. 5 are greetings, up to 2 seconds before the customer's first message in the
        -- conversation or after an ad click. Their times are whole seconds; times of staff have fractions.
        when {{ pancake.seconds_between(m ~ '.prompted_at', m ~ '.sent_at') }} <= {{ seconds }} then 'automation'
        when {{ pancake.seconds_between(m ~ '.sent_at', m ~ '.customer_after_at') }} <= {{ seconds }}
            and ({{ m }}.customer_before_at is null or {{ m }}.customer_before_at < {{ m }}.click_before_at)
            then 'automation'
        -- Sent outside of Pancake, such as the last messages of 12 recorded TikTok conversations: these have no name.
        else 'outside'
    end
{%- endmacro %}

{# The ids and the name of a member of staff in a row, as one key: see int_pancake__staff_ids. #}
{% macro staff_key(user_id, fb_id, name) -%}
    {{ dbt.concat(["coalesce(" ~ user_id ~ ", '')", "'|'", "coalesce(" ~ fb_id ~ ", '')", "'|'", "coalesce(" ~ name ~ ", '')"]) }}
{%- endmacro %}

{# The sender fields that a message has, such as `uid admin_name`. #}
{% macro sender_signature(m) -%}
    {% set signs = [] %}
    {% for name in ['uid', 'admin_id', 'admin_name', 'flow_id', 'app_id'] %}
        {% do signs.append("case when " ~ m ~ "." ~ name ~ " is not null then '" ~ name ~ " ' else '' end") %}
    {% endfor %}
    {% for name in ['is_automated', 'ai_generated'] %}
        {% do signs.append("case when " ~ m ~ "." ~ name ~ " = 'true' then '" ~ name ~ " ' else '' end") %}
    {% endfor %}
    {% do signs.append("case when " ~ m ~ ".admin_id = " ~ m ~ ".page_id then 'admin_is_page ' else '' end") %}
    trim({{ dbt.concat(signs) }})
{%- endmacro %}

{#
  Whether a text needs no answer: it consists of `pancake__closing_texts` and `pancake__closing_particles` ("ok", "cảm
  ơn shop ạ"), or of emoji only. A text with a question mark needs one. So does a single full stop: under a post, it
  asks for the price.
#}
{% macro is_closing_text(text) -%}
    {% set marks = '\u0009-\u002f\u003a-\u003e\u0040\u005b-\u0060\u007b-\u00bf\u2000-\u206f\u3000-\u303f' %}
    {# Symbols, hearts, hands and faces, except ❓ and ❔. #}
    {% set emoji = '\u2190-\u2752\u2755-\u2bff\ufe00-\ufe0f\U0001f000-\U0001faff\U000e0020-\U000e007f' %}
    {% set symbols = '[' ~ marks ~ emoji ~ ']' %}
    {% set closings = pancake.words_of(var('pancake__closing_texts'), symbols) %}
    {% set particles = pancake.words_of(var('pancake__closing_particles'), symbols) %}
    {# A typed heart counts as an emoji. #}
    {% set drawn = "replace(" ~ text ~ ", '<3', '❤')" %}
    {% set words = 'lower(' ~ pancake.composed(pancake.regexp_removed(drawn, symbols)) ~ ')' %}
    {# The last letter may be repeated: "okkk". #}
    {% set pattern = '^(' ~ (particles | join('+|')) ~ '+)*(' ~ (closings | join('+|')) ~ '+)('
        ~ ((closings + particles) | join('+|')) ~ '+)*$' %}
    case
        when {{ text }} is null or length({{ text }}) > 60 then false
        when {{ words }} = '' then {{ pancake.regexp_removed(drawn, '[' ~ marks ~ ']') }} <> ''
        else {{ pancake.regexp_removed(words, pattern) }} = ''
    end
{%- endmacro %}

{# Texts in the form that is compared: lower case, without spaces and symbols. #}
{% macro words_of(texts, symbols) %}
    {% set words = [] %}
    {% for text in texts %}
        {% set word = modules.re.sub(symbols ~ '|[?]', '', text | string | lower) %}
        {% if word and word not in words %}{% do words.append(word) %}{% endif %}
    {% endfor %}
    {{ return(words or ['ok']) }}
{% endmacro %}

{# Remove all matches of a pattern. The pattern has no backslashes, because databases treat them differently. #}
{% macro regexp_removed(text, pattern) -%}
    {{ adapter.dispatch('regexp_removed', 'pancake')(text, pattern) }}
{%- endmacro %}
{% macro default__regexp_removed(text, pattern) -%}regexp_replace({{ text }}, '{{ pattern }}', ''){%- endmacro %}
{% macro duckdb__regexp_removed(text, pattern) -%}regexp_replace({{ text }}, '{{ pattern }}', '', 'g'){%- endmacro %}
{% macro postgres__regexp_removed(text, pattern) -%}regexp_replace({{ text }}, '{{ pattern }}', '', 'g'){%- endmacro %}

{# Combine letters and accents into single characters (NFC): some phones send them apart. Snowflake has no function for
   that. #}
{% macro composed(text) -%}
    {{ adapter.dispatch('composed', 'pancake')(text) }}
{%- endmacro %}
{% macro default__composed(text) -%}normalize({{ text }}){%- endmacro %}
{% macro duckdb__composed(text) -%}nfc_normalize({{ text }}){%- endmacro %}
{% macro snowflake__composed(text) -%}{{ text }}{%- endmacro %}
