//! Template categories between protobuf and the domain. It decides nothing.

use super::doors::CategoryApi;
use super::field::{Fields, in_resource};
use super::page::{ListParameters, Totals, meta, pagination};
use super::{Api, Call, Reply, convert};
use crate::domain::category;
use crate::list_parameters;
use crate::model::category::{Category, CategoryPatch, CategorySort, NewCategory};
use crate::model::id::CategoryId;
use crate::model::page::PageRequest;
use crate::model::{Error, Reason, Result, Violation};
use crate::pb::v1;

/// The field that holds the resource in requests.
const NOUN: &str = "category";

impl CategoryApi for Api {
    async fn create_category(
        &self,
        call: Call,
        request: v1::CreateCategoryRequest,
    ) -> Result<Reply<v1::CreateCategoryResponse>> {
        let new = NewCategory::try_from(request.category.unwrap_or_default()).map_err(in_resource(&call, NOUN))?;
        let created = category::create(&self.service, &call.acting()?, new).await?;
        Ok(Reply::of(created, |category| v1::CreateCategoryResponse {
            category: Some(category.into()),
        }))
    }

    async fn list_categories(
        &self,
        call: Call,
        request: v1::ListCategoriesRequest,
    ) -> Result<Reply<v1::ListCategoriesResponse>> {
        let page = page_of(&request)?;
        let found = category::list(&self.service, &call.acting()?, &page).await?;
        Ok(Reply::new(v1::ListCategoriesResponse {
            meta: Some(meta(&page, &found, |category| category.id.to_string())),
            pagination: pagination(&page, &found),
            categories: found.rows.into_iter().map(Into::into).collect(),
        }))
    }

    async fn get_category(
        &self,
        call: Call,
        request: v1::GetCategoryRequest,
    ) -> Result<Reply<v1::GetCategoryResponse>> {
        let id = id_of(&request.category_id)?;
        let category = category::get(&self.service, &call.acting()?, id).await?;
        Ok(Reply::new(v1::GetCategoryResponse {
            category: Some(category.into()),
        }))
    }

    async fn update_category(
        &self,
        call: Call,
        request: v1::UpdateCategoryRequest,
    ) -> Result<Reply<v1::UpdateCategoryResponse>> {
        let (id, etag) = (id_of(&request.category_id)?, request.etag.clone());
        let patch = CategoryPatch::try_from(request).map_err(in_resource(&call, NOUN))?;
        let updated = category::update(&self.service, &call.acting()?, id, patch, etag).await?;
        Ok(Reply::of(updated, |category| v1::UpdateCategoryResponse {
            category: Some(category.into()),
        }))
    }

    async fn delete_category(
        &self,
        call: Call,
        request: v1::DeleteCategoryRequest,
    ) -> Result<Reply<v1::DeleteCategoryResponse>> {
        let id = id_of(&request.category_id)?;
        let deleted = category::delete(&self.service, &call.acting()?, id).await?;
        Ok(Reply::of(deleted, |deleted| v1::DeleteCategoryResponse {
            id: deleted.id.to_string(),
            deleted_at: Some(convert::timestamp(deleted.deleted_at)),
        }))
    }
}

impl From<Category> for v1::Category {
    fn from(category: Category) -> Self {
        Self {
            id: category.id.to_string(),
            name: category.name.to_string(),
            description: category.description,
            created_at: Some(convert::timestamp(category.created_at)),
            updated_at: Some(convert::timestamp(category.updated_at)),
            etag: category.version.to_string(),
        }
    }
}

impl TryFrom<v1::Category> for NewCategory {
    type Error = Vec<Violation>;

    fn try_from(category: v1::Category) -> Result<Self, Self::Error> {
        let mut fields = Fields::new();
        let name = fields.read("name", &category.name, str::parse);
        let description = category.description;
        fields.make(name.map(|name| Self { name, description }))
    }
}

impl TryFrom<v1::UpdateCategoryRequest> for CategoryPatch {
    type Error = Vec<Violation>;

    fn try_from(request: v1::UpdateCategoryRequest) -> Result<Self, Self::Error> {
        let mut category = request.category.unwrap_or_default();
        let mut fields = Fields::new();
        let mut patch = Self::default();
        for path in request.update_mask.iter().flat_map(|mask| &mask.paths) {
            match path.as_str() {
                "name" => patch.name = fields.read("name", &category.name, str::parse),
                "description" => patch.description = Some(category.description.take()),
                // The doors have settled the mask: nothing else can stand in it.
                _ => {}
            }
        }
        fields.make(Some(patch))
    }
}

// What is no id of a category names none, so it is as unknown as an id that nobody has.
fn id_of(text: &str) -> Result<CategoryId> {
    text.parse()
        .ok()
        .ok_or_else(|| Error::not_found(Reason::CategoryNotFound, "categoryId", text))
}

fn page_of(request: &v1::ListCategoriesRequest) -> Result<PageRequest<CategorySort>> {
    let parameters: ListParameters<CategorySort> = list_parameters!(request, sort, {
        created_at => CategorySort::CreatedAt,
        updated_at => CategorySort::UpdatedAt,
        name => CategorySort::Name,
    });
    parameters
        .request(CategorySort::CreatedAt, Totals::Always, |id| {
            id.parse().ok().map(CategoryId::uuid)
        })
        .map_err(Error::invalid)
}

fn sort(number: i32) -> Option<CategorySort> {
    use v1::list_categories_request::Sort;
    match Sort::try_from(number).ok()? {
        Sort::Unspecified => None,
        Sort::CreatedAt => Some(CategorySort::CreatedAt),
        Sort::UpdatedAt => Some(CategorySort::UpdatedAt),
        Sort::Name => Some(CategorySort::Name),
    }
}
