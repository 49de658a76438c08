//! What may happen to one channel type of a template. It is a change of all of them: versions and checks are the template's.

use super::{patched, record};
use crate::domain::{Acting, Service, Written};
use crate::model::channel::ChannelType;
use crate::model::id::{AppId, TemplateId};
use crate::model::slug::Reference;
use crate::model::template::{ChannelPatch, RequestedChannel, Template, TemplatePatch, content};
use crate::model::{Error, Reason, Result, Timestamp};
use crate::store::{Tx, template as store};

/// Changes one channel type of a template, or adds it.
///
/// # Errors
/// Those of [`super::update`]; what is wrong with this channel type stands under `channel`.
pub async fn set_channel(
    service: &Service,
    acting: &Acting,
    (template, channel_type): (Reference<TemplateId>, ChannelType),
    patch: ChannelPatch,
    etag: Option<String>,
) -> Result<Written<Template>> {
    let (app, now) = (acting.app()?, acting.now);
    service
        .write(acting, move |tx| {
            let (template, patch, etag) = (template.clone(), patch.clone(), etag.clone());
            Box::pin(async move {
                let template = store::get_template_locked(tx, app, &template).await?;
                template.version.check(etag.as_deref())?;
                let mut channels = requested(&template);
                let place = channels.iter().position(|channel| channel.channel_type == channel_type);
                let before = place.map_or_else(|| RequestedChannel::new(channel_type), |place| channels.remove(place));
                let edited = patch.apply(before);
                check(&edited, &template).map_err(|error| error.renamed("channels[0]", "channel"))?;
                let place = place.unwrap_or(channels.len());
                channels.insert(place, edited);
                let changed = with_channels(tx, app, &template, channels, now).await;
                let changed = changed.map_err(|error| error.renamed(&format!("channels[{place}]"), "channel"))?;
                record(tx, app, &template, changed, now).await
            })
        })
        .await
}

/// Removes one channel type from a template.
///
/// # Errors
/// [`Reason::TemplateNotFound`]; [`Reason::ChannelNotFound`] when it has no content for the type;
/// [`Reason::InvalidState`] when it has no other; [`Reason::PreconditionFailed`] when `etag` is not the current one;
/// invalid when the rest would be no sequence.
pub async fn remove_channel(
    service: &Service,
    acting: &Acting,
    template: Reference<TemplateId>,
    channel_type: ChannelType,
    etag: Option<String>,
) -> Result<Written<Template>> {
    let (app, now) = (acting.app()?, acting.now);
    service
        .write(acting, move |tx| {
            let (template, etag) = (template.clone(), etag.clone());
            Box::pin(async move {
                let template = store::get_template_locked(tx, app, &template).await?;
                template.version.check(etag.as_deref())?;
                let mut channels = requested(&template);
                let before = channels.len();
                channels.retain(|channel| channel.channel_type != channel_type);
                if channels.len() == before {
                    return Err(Error::not_found(Reason::ChannelNotFound, "channelType", channel_type));
                }
                if channels.is_empty() {
                    return Err(last_channel(&template, channel_type));
                }
                let changed = with_channels(tx, app, &template, channels, now).await?;
                record(tx, app, &template, changed, now).await
            })
        })
        .await
}

/// Checks the one that is edited; the others were checked when they came, perhaps by a later build that knows more.
fn check(edited: &RequestedChannel, template: &Template) -> Result<()> {
    let schema = &template.current.content.variable_schema;
    content::check(Some(std::slice::from_ref(edited)), Some(schema))
}

/// The channel types of a template as a request would name them.
fn requested(template: &Template) -> Vec<RequestedChannel> {
    let channels = template.current.content.channels.iter().cloned();
    let requested = channels.map(|channel| {
        let named = channel.channel_id.map(Reference::Id);
        channel.through(named)
    });
    requested.collect()
}

/// The template with other channel types, and with the version that they lead to.
async fn with_channels(
    tx: &Tx,
    app: AppId,
    template: &Template,
    channels: Vec<RequestedChannel>,
    now: Timestamp,
) -> Result<Template> {
    let patch = TemplatePatch {
        channels: Some(channels),
        ..TemplatePatch::default()
    };
    patched(tx, app, template, patch, now).await
}

fn last_channel(template: &Template, channel_type: ChannelType) -> Error {
    let message = format!(
        "template {} has content for {channel_type} only, and a template keeps at least one channel type: archive it instead",
        template.id
    );
    Error::new(Reason::InvalidState, message)
        .with("templateId", template.id)
        .with("channelType", channel_type)
}
