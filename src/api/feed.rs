//! The feed between protobuf and the domain. It decides nothing.

use super::doors::FeedApi;
use super::page::{ListParameters, Totals, meta, pagination};
use super::variable::values;
use super::{Api, Call, Reply, convert, field};
use crate::domain::feed;
use crate::list_parameters;
use crate::model::feed::{FeedItem, FeedItemStatus, FeedSort, RECEIVER_TYPE, ReadState, SENDER};
use crate::model::id::FeedItemId;
use crate::model::page::PageRequest;
use crate::model::user::Uid;
use crate::model::{Error, Result};
use crate::pb::v1;

impl FeedApi for Api {
    async fn list_feed_items(
        &self,
        call: Call,
        request: v1::ListFeedItemsRequest,
    ) -> Result<Reply<v1::ListFeedItemsResponse>> {
        let receiver = receiver(request.receiver.as_deref())?;
        let (read_state, page) = (read_state(&request), page_of(&request)?);
        let found = feed::list(&self.service, &call.acting()?, receiver, read_state, &page).await?;
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
        let item = feed::get(&self.service, &call.acting()?, id).await?;
        Ok(Reply::new(v1::GetFeedItemResponse {
            feed_item: Some(item.into()),
        }))
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
}

impl From<FeedItem> for v1::FeedItem {
    fn from(item: FeedItem) -> Self {
        let stored = item.stored;
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
            status: v1::FeedItemStatus::from(stored.status()).into(),
            label: stored.label,
            tags: stored.tags,
            alternative_text: stored.alternative_text,
            data_type: stored.data_type.number().into(),
            variables: Some(values(stored.variables)),
            content: Some(convert::structure(item.content)),
            sent_at: Some(convert::timestamp(stored.sent_at)),
            delivered_at: stored.delivered_at.map(convert::timestamp),
            read_at: stored.read_at.map(convert::timestamp),
            expires_at: stored.expires_at.map(convert::timestamp),
            created_at: Some(convert::timestamp(stored.created_at)),
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
