"""The streams, by family. A stream class states facts; what they mean is elsewhere."""

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

# A page's streams are read in this order: what is large, and needed most, comes last, so that what
# is small never waits for it.
STREAMS = (
    PagesStream,
    TagsStream,
    UsersStream,
    PostsStream,
    CallLogsStream,
    CustomersStream,
    AdConversationsStream,
    UserStatisticsStream,  # before `page_statistics`, since its rows show a page's own time
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
    ConversationDetailsStream,  # after `messages`, which it follows
    AdsStream,  # which conversations name
    SyncRunsStream,  # the last, since it tells of all others
)
