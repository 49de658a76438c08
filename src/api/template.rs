//! Templates between protobuf and the domain. It decides nothing.

use std::mem::take;

use super::channel::type_in;
use super::doors::TemplateApi;
use super::field::{Fields, at_resource, in_resource, of_resource};
use super::page::{ListParameters, Totals, meta, pagination};
use super::{Api, Call, Reply, convert};
use crate::domain::template;
use crate::list_parameters;
use crate::model::channel::ChannelType;
use crate::model::id::TemplateId;
use crate::model::page::PageRequest;
use crate::model::slug::Reference;
use crate::model::tag::TagMatch;
use crate::model::template::{
    NewClone, NewTemplate, Template, TemplateFilter, TemplatePatch, TemplateSort, TemplateStatus, TemplateVersion,
};
use crate::model::{Error, Result, Violation};
use crate::pb::v1;

pub mod content;
pub mod preview;

/// The field that holds the resource in requests.
const NOUN: &str = "template";

/// The field that holds one channel type in requests.
const CHANNEL: &str = "channel";

impl TemplateApi for Api {
    async fn create_template(
        &self,
        call: Call,
        request: v1::CreateTemplateRequest,
    ) -> Result<Reply<v1::CreateTemplateResponse>> {
        let new = NewTemplate::try_from(request.template.unwrap_or_default()).map_err(in_resource(&call, NOUN))?;
        let created = template::create(&self.service, &call.acting()?, new).await;
        let created = created.map_err(of_resource(&call, NOUN))?;
        Ok(Reply::of(created, |template| v1::CreateTemplateResponse {
            template: Some(template.into()),
        }))
    }

    async fn list_templates(
        &self,
        call: Call,
        request: v1::ListTemplatesRequest,
    ) -> Result<Reply<v1::ListTemplatesResponse>> {
        let (filter, page) = (filter_of(&request), page_of(&request)?);
        let found = template::list(&self.service, &call.acting()?, &filter, &page).await?;
        Ok(Reply::new(v1::ListTemplatesResponse {
            meta: Some(meta(&page, &found, |template| template.id.to_string())),
            pagination: pagination(&page, &found),
            templates: found.rows.into_iter().map(Into::into).collect(),
        }))
    }

    async fn get_template(
        &self,
        call: Call,
        request: v1::GetTemplateRequest,
    ) -> Result<Reply<v1::GetTemplateResponse>> {
        let named = Reference::from(request.template_id.as_str());
        let found = template::get(&self.service, &call.acting()?, &named).await?;
        Ok(Reply::new(v1::GetTemplateResponse {
            template: Some(found.into()),
        }))
    }

    async fn update_template(
        &self,
        call: Call,
        request: v1::UpdateTemplateRequest,
    ) -> Result<Reply<v1::UpdateTemplateResponse>> {
        let (named, etag) = (Reference::from(request.template_id.as_str()), request.etag.clone());
        let patch = TemplatePatch::try_from(request).map_err(in_resource(&call, NOUN))?;
        let updated = template::update(&self.service, &call.acting()?, named, patch, etag).await;
        let updated = updated.map_err(of_resource(&call, NOUN))?;
        Ok(Reply::of(updated, |template| v1::UpdateTemplateResponse {
            template: Some(template.into()),
        }))
    }

    async fn create_template_version(
        &self,
        call: Call,
        request: v1::CreateTemplateVersionRequest,
    ) -> Result<Reply<v1::CreateTemplateVersionResponse>> {
        let named = Reference::from(request.template_id.as_str());
        let opened = template::create_version(&self.service, &call.acting()?, named).await?;
        Ok(Reply::of(opened, |version| v1::CreateTemplateVersionResponse {
            version: Some(version.into()),
        }))
    }

    async fn preview_template(
        &self,
        call: Call,
        request: v1::PreviewTemplateRequest,
    ) -> Result<Reply<v1::PreviewTemplateResponse>> {
        let named = Reference::from(request.template_id.as_str());
        let preview = template::preview(&self.service, &call.acting()?, named, request.into()).await?;
        Ok(Reply::of(preview, Into::into))
    }

    async fn archive_template(
        &self,
        call: Call,
        request: v1::ArchiveTemplateRequest,
    ) -> Result<Reply<v1::ArchiveTemplateResponse>> {
        let named = Reference::from(request.template_id.as_str());
        let archived = template::archive(&self.service, &call.acting()?, named, request.etag).await?;
        Ok(Reply::of(archived, |archived| v1::ArchiveTemplateResponse {
            id: archived.id.to_string(),
            deleted_at: Some(convert::timestamp(archived.archived_at)),
        }))
    }

    async fn clone_template(
        &self,
        call: Call,
        request: v1::CloneTemplateRequest,
    ) -> Result<Reply<v1::CloneTemplateResponse>> {
        let source = Reference::from(request.template_id.as_str());
        let clone = NewClone::try_from(request).map_err(Error::invalid)?;
        let made = template::clone(&self.service, &call.acting()?, source, clone).await?;
        Ok(Reply::of(made, |template| v1::CloneTemplateResponse {
            template: Some(template.into()),
        }))
    }

    async fn set_template_channel(
        &self,
        call: Call,
        request: v1::SetTemplateChannelRequest,
    ) -> Result<Reply<v1::SetTemplateChannelResponse>> {
        let named = channel_named(&request.template_id, request.channel_type)?;
        let etag = request.etag.clone();
        let patch = content::channel_patch(request, named.1).map_err(in_resource(&call, CHANNEL))?;
        let updated = template::set_channel(&self.service, &call.acting()?, named, patch, etag).await;
        let updated = updated.map_err(at_resource(&call, CHANNEL))?;
        Ok(Reply::of(updated, |template| v1::SetTemplateChannelResponse {
            template: Some(template.into()),
        }))
    }

    async fn remove_template_channel(
        &self,
        call: Call,
        request: v1::RemoveTemplateChannelRequest,
    ) -> Result<Reply<v1::RemoveTemplateChannelResponse>> {
        let (template, channel_type) = channel_named(&request.template_id, request.channel_type)?;
        let acting = call.acting()?;
        let rest = template::remove_channel(&self.service, &acting, template, channel_type, request.etag).await?;
        Ok(Reply::of(rest, |template| v1::RemoveTemplateChannelResponse {
            template: Some(template.into()),
        }))
    }
}

/// The template without the list of its versions.
impl From<Template> for v1::Template {
    fn from(template: Template) -> Self {
        let current_version = convert::count(template.current.number);
        let current = v1::TemplateVersion::from(template.current);
        Self {
            id: template.id.to_string(),
            template_id: Some(template.slug.into()),
            name: template.name.to_string(),
            template_category: template.category.map(|category| category.name.to_string()),
            label: template.label,
            alternative_text: template.alternative_text,
            tags: template.tags,
            status: Some(template.status.number().into()),
            channels: current.channels,
            variable_schema: current.variable_schema,
            config: template.config.map(convert::structure),
            current_version,
            versions: Vec::new(),
            archived_at: template.archived_at.map(convert::timestamp),
            created_at: Some(convert::timestamp(template.created_at)),
            updated_at: Some(convert::timestamp(template.updated_at)),
            etag: template.version.to_string(),
        }
    }
}

/// The template with its versions.
impl From<(Template, Vec<TemplateVersion>)> for v1::Template {
    fn from((template, versions): (Template, Vec<TemplateVersion>)) -> Self {
        Self {
            versions: versions.into_iter().map(Into::into).collect(),
            ..template.into()
        }
    }
}

impl TryFrom<v1::Template> for NewTemplate {
    type Error = Vec<Violation>;

    fn try_from(template: v1::Template) -> Result<Self, Self::Error> {
        let mut fields = Fields::new();
        let slug = template.template_id.as_deref();
        let slug = slug.and_then(|text| fields.read("templateId", text, str::parse));
        let name = fields.read("name", &template.name, str::parse);
        let channels = content::channels(&mut fields, template.channels);
        let variable_schema = content::variable_schema(&mut fields, template.variable_schema);
        content::check(&mut fields, &channels, Some(&variable_schema));
        fields.make(name.map(|name| Self {
            slug,
            name,
            category: template.template_category,
            label: template.label,
            alternative_text: template.alternative_text,
            tags: template.tags,
            status: template.status.and_then(status_of).unwrap_or_default(),
            channels,
            variable_schema,
            config: template.config.map(convert::object),
        }))
    }
}

impl TryFrom<v1::CloneTemplateRequest> for NewClone {
    type Error = Vec<Violation>;

    fn try_from(request: v1::CloneTemplateRequest) -> Result<Self, Self::Error> {
        let mut fields = Fields::new();
        let clone = Self {
            version: request.template_version.and_then(|number| u32::try_from(number).ok()),
            name: request.name.and_then(|name| fields.read("name", &name, str::parse)),
            slug: request
                .new_template_id
                .and_then(|slug| fields.read("newTemplateId", &slug, str::parse)),
        };
        fields.make(Some(clone))
    }
}

impl TryFrom<v1::UpdateTemplateRequest> for TemplatePatch {
    type Error = Vec<Violation>;

    fn try_from(request: v1::UpdateTemplateRequest) -> Result<Self, Self::Error> {
        let mut template = request.template.unwrap_or_default();
        let mut fields = Fields::new();
        let mut patch = Self::default();
        for path in request.update_mask.iter().flat_map(|mask| &mask.paths) {
            match path.as_str() {
                "template_id" => patch.slug = Some(template.template_id.take().unwrap_or_default()),
                "name" => patch.name = fields.read("name", &template.name, str::parse),
                "template_category" => patch.category = Some(template.template_category.take()),
                "label" => patch.label = Some(template.label.take()),
                "alternative_text" => patch.alternative_text = Some(template.alternative_text.take()),
                "tags" => patch.tags = Some(take(&mut template.tags)),
                "status" => patch.status = Some(template.status.and_then(status_of).unwrap_or_default()),
                "channels" => patch.channels = Some(content::channels(&mut fields, take(&mut template.channels))),
                "variable_schema" => {
                    let schema = take(&mut template.variable_schema);
                    patch.variable_schema = Some(content::variable_schema(&mut fields, schema));
                }
                "config" => patch.config = Some(template.config.take().map(convert::object)),
                // The doors have settled the mask: nothing else can stand in it.
                _ => {}
            }
        }
        content::check(
            &mut fields,
            patch.channels.as_deref().unwrap_or_default(),
            patch.variable_schema.as_deref(),
        );
        fields.make(Some(patch))
    }
}

fn status_of(number: i32) -> Option<TemplateStatus> {
    match v1::TemplateStatus::try_from(number).ok()? {
        v1::TemplateStatus::Unspecified => None,
        v1::TemplateStatus::Draft => Some(TemplateStatus::Draft),
        v1::TemplateStatus::Approved => Some(TemplateStatus::Approved),
        v1::TemplateStatus::Archived => Some(TemplateStatus::Archived),
    }
}

fn filter_of(request: &v1::ListTemplatesRequest) -> TemplateFilter {
    TemplateFilter {
        search: request.search.clone(),
        status: request.status.and_then(status_of),
        category: request.template_category.clone(),
        tags: request.tags.clone(),
        tag_match: match request.tag_match.map(v1::list_templates_request::TagMatch::try_from) {
            Some(Ok(v1::list_templates_request::TagMatch::All)) => TagMatch::All,
            Some(_) | None => TagMatch::Any,
        },
    }
}

/// The channel type of a template that a path names.
fn channel_named(template: &str, number: i32) -> Result<(Reference<TemplateId>, ChannelType)> {
    let mut fields = Fields::new();
    let channel_type = type_in(&mut fields, "channelType", number);
    let channel_type = fields.make(channel_type).map_err(Error::invalid)?;
    Ok((Reference::from(template), channel_type))
}

fn page_of(request: &v1::ListTemplatesRequest) -> Result<PageRequest<TemplateSort>> {
    let parameters: ListParameters<TemplateSort> = list_parameters!(request, sort, {
        created_at => TemplateSort::CreatedAt,
        updated_at => TemplateSort::UpdatedAt,
        name => TemplateSort::Name,
    });
    parameters
        .request(TemplateSort::CreatedAt, Totals::Always, |id| {
            id.parse().ok().map(TemplateId::uuid)
        })
        .map_err(Error::invalid)
}

fn sort(number: i32) -> Option<TemplateSort> {
    use v1::list_templates_request::Sort;
    match Sort::try_from(number).ok()? {
        Sort::Unspecified => None,
        Sort::CreatedAt => Some(TemplateSort::CreatedAt),
        Sort::UpdatedAt => Some(TemplateSort::UpdatedAt),
        Sort::Name => Some(TemplateSort::Name),
    }
}
