{#
  Who said a message. What is counted here stands in 227 messages of six Facebook conversations and a
  TikTok comment, as the API answered them. `pancake__sender_check` shows the same for your own pages.

  `m` is a row with what the message says of its sender (`sender_id`, `uid`, `admin_id`, `admin_name`,
  `flow_id`, `app_id`, `is_automated`, `ai_generated`, all texts), its `kind`, `sent_at`, and around it
  `prompted_at` (the last customer's message or ad click until then), `customer_before_at`,
  `click_before_at`, `customer_after_at`.
#}
{% macro sender_kind(m) -%}
    {% set seconds = var('pancake__auto_reply_seconds', 5) %}
    case
        -- Nobody's: the 4 ad clicks name the page as their sender, and are neither greeting nor answer. The 16
        -- recorded messages with a reaction have a text or a file, too, which their sender has said.
        when {{ m }}.kind in ('ad_click', 'system', 'reaction') then 'nobody'
        -- The 80 messages of customers. Of these 74 have `ai_generated` false, which means nothing.
        when {{ m }}.sender_id <> {{ m }}.page_id then 'customer'
        -- The 6 messages of Botcake flows have `flow_id`, `app_id`, and the page itself as `admin_id`, with its name
        -- as `admin_name`. `is_automated` and `ai_generated` true are in the vendor's description of the API.
        when {{ m }}.flow_id is not null or {{ m }}.is_automated = 'true' or {{ m }}.ai_generated = 'true'
            or {{ m }}.admin_id = {{ m }}.page_id then 'automation'
        {%- if var('pancake__automation_app_ids', []) %}
        when {{ m }}.app_id in ('{{ var("pancake__automation_app_ids") | join("', '") }}') then 'automation'
        {%- endif %}
        -- Staff: 121 messages with `uid`, and 4 order forms with an `admin_name` alone. (`app_id` is no sign: the
        -- channel's own inbox for staff has one, too.)
        when coalesce({{ m }}.uid, {{ m }}.admin_id, {{ m }}.admin_name) is not null then 'staff'
        when {{ m }}.sender_id is null then null
        -- The 12 nameless messages are the channel's own automatic ones: 7 come 1 to 5 seconds after a customer's
        -- message or an ad click, the other 5 are greetings up to 2 seconds before the customer's first words, of the
        -- conversation or after an ad click. Their times are whole seconds, those of staff have a fraction.
        when {{ pancake.seconds_between(m ~ '.prompted_at', m ~ '.sent_at') }} <= {{ seconds }} then 'automation'
        when {{ pancake.seconds_between(m ~ '.sent_at', m ~ '.customer_after_at') }} <= {{ seconds }}
            and ({{ m }}.customer_before_at is null or {{ m }}.customer_before_at < {{ m }}.click_before_at)
            then 'automation'
        -- Written outside of Pancake. So are the last messages of 12 recorded TikTok inboxes: their staff is nameless.
        else 'outside'
    end
{%- endmacro %}

{# What a row says of a member of staff, as int_pancake__staff_ids knows it. #}
{% macro staff_key(user_id, fb_id, name) -%}
    {{ dbt.concat(["coalesce(" ~ user_id ~ ", '')", "'|'", "coalesce(" ~ fb_id ~ ", '')", "'|'", "coalesce(" ~ name ~ ", '')"]) }}
{%- endmacro %}

{# Which of the signs of a sender a message has, such as `uid admin_name`. #}
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
  Whether a text opens no wait: it is made of `pancake__closing_texts` ("ok", "cảm ơn shop ạ"), or of emoji alone.
  A question mark makes it a question. A full stop alone is none of these: under a post it asks for the price.
#}
{% macro is_closing_text(text) -%}
    {% set marks = '\u0009-\u002f\u003a-\u003e\u0040\u005b-\u0060\u007b-\u00bf\u2000-\u206f\u3000-\u303f' %}
    {# Symbols, hearts, hands and faces, but ❓ and ❔. #}
    {% set emoji = '\u2190-\u2752\u2755-\u2bff\ufe00-\ufe0f\U0001f000-\U0001faff\U000e0020-\U000e007f' %}
    {% set symbols = '[' ~ marks ~ emoji ~ ']' %}
    {% set closings = pancake.words_of(var('pancake__closing_texts'), symbols) %}
    {% set particles = pancake.words_of(var('pancake__closing_particles'), symbols) %}
    {# A heart that is typed. #}
    {% set drawn = "replace(" ~ text ~ ", '<3', '❤')" %}
    {% set words = 'lower(' ~ pancake.composed(pancake.regexp_removed(drawn, symbols)) ~ ')' %}
    {# A last letter is often repeated: "okkk". #}
    {% set pattern = '^(' ~ (particles | join('+|')) ~ '+)*(' ~ (closings | join('+|')) ~ '+)('
        ~ ((closings + particles) | join('+|')) ~ '+)*$' %}
    case
        when {{ text }} is null or length({{ text }}) > 60 then false
        when {{ words }} = '' then {{ pancake.regexp_removed(drawn, '[' ~ marks ~ ']') }} <> ''
        else {{ pancake.regexp_removed(words, pattern) }} = ''
    end
{%- endmacro %}

{# Texts as they are compared: small letters without spaces and symbols. #}
{% macro words_of(texts, symbols) %}
    {% set words = [] %}
    {% for text in texts %}
        {% set word = modules.re.sub(symbols ~ '|[?]', '', text | string | lower) %}
        {% if word and word not in words %}{% do words.append(word) %}{% endif %}
    {% endfor %}
    {{ return(words or ['ok']) }}
{% endmacro %}

{# A text without what a pattern matches. No backslashes in the pattern: not all read them alike. #}
{% macro regexp_removed(text, pattern) -%}
    {{ adapter.dispatch('regexp_removed', 'pancake')(text, pattern) }}
{%- endmacro %}
{% macro default__regexp_removed(text, pattern) -%}regexp_replace({{ text }}, '{{ pattern }}', ''){%- endmacro %}
{% macro duckdb__regexp_removed(text, pattern) -%}regexp_replace({{ text }}, '{{ pattern }}', '', 'g'){%- endmacro %}
{% macro postgres__regexp_removed(text, pattern) -%}regexp_replace({{ text }}, '{{ pattern }}', '', 'g'){%- endmacro %}

{# A letter and its accents as one character, as some phones do not send them. Snowflake has no function for it. #}
{% macro composed(text) -%}
    {{ adapter.dispatch('composed', 'pancake')(text) }}
{%- endmacro %}
{% macro default__composed(text) -%}normalize({{ text }}){%- endmacro %}
{% macro duckdb__composed(text) -%}nfc_normalize({{ text }}){%- endmacro %}
{% macro snowflake__composed(text) -%}{{ text }}{%- endmacro %}
