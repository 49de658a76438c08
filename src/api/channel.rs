//! Channels between protobuf and the domain. It decides nothing.

use super::doors::ChannelApi;
use super::field::{Fields, in_resource, of_resource};
use super::page::{ListParameters, Totals, meta, pagination};
use super::{Api, Call, Reply, convert};
use crate::domain::channel;
use crate::list_parameters;
use crate::model::channel::{Availability, Channel, ChannelLimit, ChannelPatch, ChannelSort, ChannelType, NewChannel};
use crate::model::id::ChannelId;
use crate::model::page::PageRequest;
use crate::model::slug::Reference;
use crate::model::{Error, Result, Violation};
use crate::pb::v1;

/// The field that holds the resource in requests.
const NOUN: &str = "channel";

impl ChannelApi for Api {
    async fn create_channel(
        &self,
        call: Call,
        request: v1::CreateChannelRequest,
    ) -> Result<Reply<v1::CreateChannelResponse>> {
        let new = NewChannel::try_from(request.channel.unwrap_or_default()).map_err(in_resource(&call, NOUN))?;
        let created = channel::create(&self.service, &call.acting()?, new).await?;
        Ok(Reply::of(created, |channel| v1::CreateChannelResponse {
            channel: Some(channel.into()),
        }))
    }

    async fn list_channels(
        &self,
        call: Call,
        request: v1::ListChannelsRequest,
    ) -> Result<Reply<v1::ListChannelsResponse>> {
        let (search, page) = (request.search.as_deref(), page_of(&request)?);
        let found = channel::list(&self.service, &call.acting()?, search, &page).await?;
        Ok(Reply::new(v1::ListChannelsResponse {
            meta: Some(meta(&page, &found, |channel| channel.id.to_string())),
            pagination: pagination(&page, &found),
            channels: found.rows.into_iter().map(Into::into).collect(),
        }))
    }

    async fn get_channel_availability(
        &self,
        call: Call,
        _: v1::GetChannelAvailabilityRequest,
    ) -> Result<Reply<v1::GetChannelAvailabilityResponse>> {
        let rows = channel::availability(&self.service, &call.acting()?).await?;
        Ok(Reply::new(v1::GetChannelAvailabilityResponse {
            availability: rows.into_iter().map(Into::into).collect(),
        }))
    }

    async fn get_channel(&self, call: Call, request: v1::GetChannelRequest) -> Result<Reply<v1::GetChannelResponse>> {
        let named = Reference::from(request.channel_id.as_str());
        let channel = channel::get(&self.service, &call.acting()?, &named).await?;
        Ok(Reply::new(v1::GetChannelResponse {
            channel: Some(channel.into()),
        }))
    }

    async fn update_channel(
        &self,
        call: Call,
        request: v1::UpdateChannelRequest,
    ) -> Result<Reply<v1::UpdateChannelResponse>> {
        let (named, etag) = (Reference::from(request.channel_id.as_str()), request.etag.clone());
        let patch = ChannelPatch::try_from(request).map_err(in_resource(&call, NOUN))?;
        let updated = channel::update(&self.service, &call.acting()?, named, patch, etag).await;
        let updated = updated.map_err(of_resource(&call, NOUN))?;
        Ok(Reply::of(updated, |channel| v1::UpdateChannelResponse {
            channel: Some(channel.into()),
        }))
    }
}

/// The contract's number of a channel type.
#[must_use]
pub fn type_number(channel_type: ChannelType) -> i32 {
    channel_type.number().into()
}

/// The channel type with a number of the contract, if the field holds one.
pub fn type_in(fields: &mut Fields, field: &str, number: i32) -> Option<ChannelType> {
    let known = ChannelType::ALL.into_iter().find(|known| type_number(*known) == number);
    if known.is_none() {
        fields.refuse(Violation::new(field, "must be a known channel type").received(number));
    }
    known
}

impl From<Channel> for v1::Channel {
    fn from(channel: Channel) -> Self {
        Self {
            id: channel.id.to_string(),
            channel_id: Some(channel.slug.into()),
            r#type: type_number(channel.channel_type),
            name: channel.name.to_string(),
            enabled: Some(channel.enabled),
            metadata: channel.metadata.map(convert::structure),
            created_at: Some(convert::timestamp(channel.created_at)),
            updated_at: Some(convert::timestamp(channel.updated_at)),
            etag: channel.version.to_string(),
        }
    }
}

impl From<Availability> for v1::ChannelAvailability {
    fn from(row: Availability) -> Self {
        let limit = match row.limit {
            ChannelLimit::Unlimited => -1,
            ChannelLimit::AtMost(limit) => i32::try_from(limit).unwrap_or(i32::MAX),
        };
        Self {
            r#type: type_number(row.channel_type),
            limit,
            used: i32::try_from(row.used).unwrap_or(i32::MAX),
        }
    }
}

impl TryFrom<v1::Channel> for NewChannel {
    type Error = Vec<Violation>;

    fn try_from(channel: v1::Channel) -> Result<Self, Self::Error> {
        let mut fields = Fields::new();
        let slug = channel.channel_id.as_deref();
        let slug = slug.and_then(|text| fields.read("channelId", text, str::parse));
        let name = fields.read("name", &channel.name, str::parse);
        let channel_type = type_in(&mut fields, "type", channel.r#type);
        let new = name.zip(channel_type).map(|(name, channel_type)| Self {
            slug,
            channel_type,
            name,
            enabled: channel.enabled.unwrap_or_default(),
            metadata: channel.metadata.map(convert::object),
        });
        fields.make(new)
    }
}

impl TryFrom<v1::UpdateChannelRequest> for ChannelPatch {
    type Error = Vec<Violation>;

    fn try_from(request: v1::UpdateChannelRequest) -> Result<Self, Self::Error> {
        let mut channel = request.channel.unwrap_or_default();
        let mut fields = Fields::new();
        let mut patch = Self::default();
        for path in request.update_mask.iter().flat_map(|mask| &mask.paths) {
            match path.as_str() {
                "channel_id" => patch.slug = Some(channel.channel_id.take().unwrap_or_default()),
                "type" => patch.channel_type = type_in(&mut fields, "type", channel.r#type),
                "name" => patch.name = fields.read("name", &channel.name, str::parse),
                "enabled" => patch.enabled = Some(channel.enabled.unwrap_or_default()),
                "metadata" => patch.metadata = Some(channel.metadata.take().map(convert::object)),
                // The doors have settled the mask: nothing else can stand in it.
                _ => {}
            }
        }
        fields.make(Some(patch))
    }
}

fn page_of(request: &v1::ListChannelsRequest) -> Result<PageRequest<ChannelSort>> {
    let parameters: ListParameters<ChannelSort> = list_parameters!(request, sort, {
        created_at => ChannelSort::CreatedAt,
        updated_at => ChannelSort::UpdatedAt,
        channel_type => ChannelSort::ChannelType,
    });
    parameters
        .request(ChannelSort::CreatedAt, Totals::Always, |id| {
            id.parse().ok().map(ChannelId::uuid)
        })
        .map_err(Error::invalid)
}

fn sort(number: i32) -> Option<ChannelSort> {
    use v1::list_channels_request::Sort;
    match Sort::try_from(number).ok()? {
        Sort::Unspecified => None,
        Sort::CreatedAt => Some(ChannelSort::CreatedAt),
        Sort::UpdatedAt => Some(ChannelSort::UpdatedAt),
        Sort::ChannelType => Some(ChannelSort::ChannelType),
    }
}
