//! The feed between protobuf and the domain. It decides nothing.

use std::collections::BTreeSet;

use super::doors::FeedApi;
use super::field::Fields;
use super::page::{ListParameters, Totals, meta, pagination};
use super::variable::values;
use super::{Api, Call, Reply, convert, field};
use crate::domain::feed::{self, Delivered};
use crate::list_parameters;
use crate::model::feed::{
    Engagement, FeedFilter, FeedItem, FeedItemStatus, FeedSort, RECEIVER_TYPE, ReadState, SENDER, Shown,
};
use crate::model::id::FeedItemId;
use crate::model::page::PageRequest;
use crate::model::slug::Reference;
use crate::model::tag::TagMatch;
use crate::model::user::Uid;
use crate::model::{Error, Result, Violation};
use crate::pb::v1;

impl FeedApi for Api {
    async fn list_feed_items(
        &self,
        call: Call,
        request: v1::ListFeedItemsRequest,
    ) -> Result<Reply<v1::ListFeedItemsResponse>> {
        let (filter, page) = (filter_of(&request)?, page_of(&request)?);
        let shown = shown(request.template_only);
        let found = feed::list(&self.service, &call.acting()?, &filter, &page, shown).await?;
        Ok(Reply::new(v1::ListFeedItemsResponse {
            meta: Some(meta(&page, &found, |item| item.stored.id.to_string())),
            pagination: pagination(&page, &found),
            feed_items: found.rows.into_iter().map(Into::into).collect(),
        }))
    }

    async fn get_unread_count(
        &self,
        call: Call,
        request: v1::GetUnreadCountRequest,
    ) -> Result<Reply<v1::GetUnreadCountResponse>> {
        let receiver = receiver(request.receiver.as_deref())?;
        let category = request.template_category.as_deref();
        let count = feed::unread_count(&self.service, &call.acting()?, receiver, category).await?;
        Ok(Reply::new(v1::GetUnreadCountResponse {
            count: convert::count(count),
        }))
    }

    async fn get_feed_item(
        &self,
        call: Call,
        request: v1::GetFeedItemRequest,
    ) -> Result<Reply<v1::GetFeedItemResponse>> {
        let id = field::parse("feedItemId", &request.feed_item_id)?;
        let item = feed::get(&self.service, &call.acting()?, id, shown(request.template_only)).await?;
        Ok(Reply::new(v1::GetFeedItemResponse {
            feed_item: Some(item.into()),
        }))
    }

    async fn mark_feed_item_delivered(
        &self,
        call: Call,
        request: v1::MarkFeedItemDeliveredRequest,
    ) -> Result<Reply<v1::MarkFeedItemDeliveredResponse>> {
        let id = field::parse("feedItemId", &request.feed_item_id)?;
        let delivered = feed::mark_delivered(&self.service, &call.acting()?, id).await?;
        Ok(Reply::of(delivered, |item| v1::MarkFeedItemDeliveredResponse {
            feed_item: Some(item.into()),
        }))
    }

    async fn mark_feed_items_delivered(
        &self,
        call: Call,
        request: v1::MarkFeedItemsDeliveredRequest,
    ) -> Result<Reply<v1::MarkFeedItemsDeliveredResponse>> {
        let ids = ids(&request.ids)?;
        let delivered = feed::deliver_many(&self.service, &call.acting()?, ids).await?;
        Ok(Reply::of(delivered, Into::into))
    }

    async fn mark_feed_item_read(
        &self,
        call: Call,
        request: v1::MarkFeedItemReadRequest,
    ) -> Result<Reply<v1::MarkFeedItemReadResponse>> {
        let id = field::parse("feedItemId", &request.feed_item_id)?;
        let read = feed::mark_read(&self.service, &call.acting()?, id).await?;
        Ok(Reply::of(read, |item| v1::MarkFeedItemReadResponse {
            feed_item: Some(item.into()),
        }))
    }

    async fn mark_all_feed_items_read(
        &self,
        call: Call,
        request: v1::MarkAllFeedItemsReadRequest,
    ) -> Result<Reply<v1::MarkAllFeedItemsReadResponse>> {
        let category = request.template_category.as_deref();
        let read = feed::mark_all_read(&self.service, &call.acting()?, category).await?;
        Ok(Reply::of(read, |count| v1::MarkAllFeedItemsReadResponse {
            count: convert::count(count),
        }))
    }

    async fn report_feed_item_engagement(
        &self,
        call: Call,
        request: v1::ReportFeedItemEngagementRequest,
    ) -> Result<Reply<v1::ReportFeedItemEngagementResponse>> {
        let id = field::parse("feedItemId", &request.feed_item_id)?;
        let topic = request.topic.map(|topic| field::parse("topic", &topic)).transpose()?;
        let engaged = feed::engage(&self.service, &call.acting()?, id, topic.unwrap_or_default()).await?;
        Ok(Reply::of(engaged, |item| v1::ReportFeedItemEngagementResponse {
            feed_item: Some(item.into()),
        }))
    }

    async fn delete_feed_item(
        &self,
        call: Call,
        request: v1::DeleteFeedItemRequest,
    ) -> Result<Reply<v1::DeleteFeedItemResponse>> {
        let id = field::parse("feedItemId", &request.feed_item_id)?;
        let deleted = feed::delete(&self.service, &call.acting()?, id).await?;
        Ok(Reply::of(deleted, |deleted| v1::DeleteFeedItemResponse {
            id: deleted.id.to_string(),
            deleted_at: Some(convert::timestamp(deleted.deleted_at)),
        }))
    }
}

impl From<Delivered> for v1::MarkFeedItemsDeliveredResponse {
    fn from(delivered: Delivered) -> Self {
        let items = delivered.items.into_iter().map(|(id, at)| v1::DeliveredFeedItem {
            id: id.to_string(),
            delivered_at: Some(convert::timestamp(at)),
        });
        Self {
            count: convert::count(delivered.count),
            items: items.collect(),
        }
    }
}

impl From<FeedItem> for v1::FeedItem {
    fn from(item: FeedItem) -> Self {
        let stored = item.stored;
        let state = stored.state;
        let category = stored.category_name.as_ref().map(ToString::to_string);
        Self {
            id: stored.id.to_string(),
            notification_id: stored.notification_id.to_string(),
            receiver: item.receiver.to_string(),
            receiver_type: RECEIVER_TYPE.to_owned(),
            sender: SENDER.to_owned(),
            template_id: item.template_id.to_string(),
            template_version: convert::count(item.template_version),
            channel_type: v1::ChannelType::InApp.into(),
            channel_id: stored.channel_id.to_string(),
            template_category: category.clone(),
            category,
            category_id: stored.category_id.map(|id| id.to_string()),
            status: v1::FeedItemStatus::from(state.status()).into(),
            label: stored.label,
            tags: stored.tags,
            alternative_text: stored.alternative_text,
            data_type: stored.data_type.number().into(),
            variables: Some(values(stored.variables)),
            content: item.content.map(convert::structure),
            sent_at: Some(convert::timestamp(stored.sent_at)),
            delivered_at: state.delivered_at.map(convert::timestamp),
            read_at: state.read_at.map(convert::timestamp),
            expires_at: stored.expires_at.map(convert::timestamp),
            interacted_at: state.interacted_at.map(convert::timestamp),
            engagements: stored.engagements.into_iter().map(Into::into).collect(),
            created_at: Some(convert::timestamp(stored.sent_at)),
            deleted_at: state.deleted_at.map(convert::timestamp),
        }
    }
}

impl From<Engagement> for v1::FeedItemEngagement {
    fn from(engaged: Engagement) -> Self {
        let topic = engaged.topic.to_string();
        Self {
            topic: (!topic.is_empty()).then_some(topic),
            engaged_at: Some(convert::timestamp(engaged.engaged_at)),
        }
    }
}

impl From<FeedItemStatus> for v1::FeedItemStatus {
    fn from(status: FeedItemStatus) -> Self {
        match status {
            FeedItemStatus::Sent => Self::Sent,
            FeedItemStatus::Delivered => Self::Delivered,
            FeedItemStatus::Read => Self::Read,
        }
    }
}

/// What a list is asked for, with all that is wrong with it.
fn filter_of(request: &v1::ListFeedItemsRequest) -> Result<FeedFilter> {
    let sent_from = request.date_from.as_ref().and_then(convert::instant);
    let sent_to = request.date_to.as_ref().and_then(convert::instant);
    if sent_from.zip(sent_to).is_some_and(|(from, to)| to < from) {
        return Err(Error::invalid(vec![Violation::new(
            "dateTo",
            "must not lie before dateFrom",
        )]));
    }
    Ok(FeedFilter {
        receiver: receiver(request.receiver.as_deref())?,
        read_state: read_state(request),
        sent_from,
        sent_to,
        tags: request.tags.clone(),
        tag_match: tag_match(request),
        category: request.template_category.clone(),
        channel: request.channel_id.as_deref().map(Reference::from),
        with_deleted: request.include_deleted.unwrap_or_default(),
        with_expired: request.include_expired.unwrap_or_default(),
    })
}

fn tag_match(request: &v1::ListFeedItemsRequest) -> TagMatch {
    use v1::list_feed_items_request::TagMatch as Word;
    match request.tag_match.and_then(|number| Word::try_from(number).ok()) {
        Some(Word::All) => TagMatch::All,
        Some(Word::Any | Word::Unspecified) | None => TagMatch::Any,
    }
}

const fn shown(template_only: Option<bool>) -> Shown {
    match template_only {
        Some(true) => Shown::Template,
        Some(false) | None => Shown::Content,
    }
}

/// The ids of items, with all that are none.
fn ids(texts: &[String]) -> Result<BTreeSet<FeedItemId>> {
    let mut fields = Fields::new();
    let ids = texts.iter().enumerate().map(|(at, text)| {
        let field = format!("ids[{at}]");
        fields.read(&field, text, |text| text.parse())
    });
    let ids = ids.collect::<Vec<_>>().into_iter().collect::<Option<_>>();
    fields.make(ids).map_err(Error::invalid)
}

fn receiver(uid: Option<&str>) -> Result<Option<Uid>> {
    uid.map(|uid| field::parse("receiver", uid)).transpose()
}

fn page_of(request: &v1::ListFeedItemsRequest) -> Result<PageRequest<FeedSort>> {
    let parameters: ListParameters<FeedSort> = list_parameters!(request, sort, {
        sent_at => FeedSort::SentAt,
        created_at => FeedSort::CreatedAt,
    });
    parameters
        .request(FeedSort::SentAt, Totals::ByPage, |id| {
            id.parse().ok().map(FeedItemId::uuid)
        })
        .map_err(Error::invalid)
}

fn sort(number: i32) -> Option<FeedSort> {
    use v1::list_feed_items_request::Sort;
    match Sort::try_from(number).ok()? {
        Sort::Unspecified => None,
        Sort::SentAt => Some(FeedSort::SentAt),
        Sort::CreatedAt => Some(FeedSort::CreatedAt),
    }
}

fn read_state(request: &v1::ListFeedItemsRequest) -> ReadState {
    use v1::list_feed_items_request::ReadState as Word;
    match request.read_state.and_then(|number| Word::try_from(number).ok()) {
        Some(Word::Read) => ReadState::Read,
        Some(Word::Unread) => ReadState::Unread,
        Some(Word::All | Word::Unspecified) | None => ReadState::All,
    }
}
