"""The streams, by topic. A stream class declares facts; the code that uses them is elsewhere."""

from tap_pancake.streams.ads import (
    AdConversationsStream,
    AdsStream,
    AdStatisticsStream,
    CampaignStatisticsStream,
)
from tap_pancake.streams.content import CallLogsStream, PostsStream, TagsStream
from tap_pancake.streams.conversations import ConversationsStream
from tap_pancake.streams.details import ConversationDetailsStream
from tap_pancake.streams.feedbacks import CustomerFeedbacksStream
from tap_pancake.streams.messages import MessagesStream
from tap_pancake.streams.pages import PagesStream
from tap_pancake.streams.people import CustomersStream, UsersStream
from tap_pancake.streams.runs import SyncRunsStream
from tap_pancake.streams.statistics import (
    CustomerEngagementsStream,
    MultiPageUserStatisticsStream,
    NewCustomerStatisticsStream,
    PageStatisticsStream,
    TagStatisticsStream,
    UserEngagementsStream,
    UserStatisticsStream,
)

# The streams of a page are read in this order. The inbox is the largest and comes last, so that the
# small streams never wait for it.
STREAMS = (
    PagesStream,
    TagsStream,
    UsersStream,
    PostsStream,
    CallLogsStream,
    CustomersStream,
    AdConversationsStream,
    UserStatisticsStream,  # before `page_statistics`, because its rows show the page's time zone
    PageStatisticsStream,
    TagStatisticsStream,
    NewCustomerStatisticsStream,
    CustomerFeedbacksStream,
    CustomerEngagementsStream,
    UserEngagementsStream,
    AdStatisticsStream,
    CampaignStatisticsStream,
    MultiPageUserStatisticsStream,
    ConversationsStream,
    MessagesStream,
    ConversationDetailsStream,  # after `messages`: it uses the same answers
    AdsStream,  # after `conversations`, which contain the ids of ads
    SyncRunsStream,  # last, because it reports on all others
)
