//! Imports between protobuf and the domain. It decides nothing.

use super::id_of;
use crate::api::convert;
use crate::api::doors::messages::Messages;
use crate::api::page::{ListParameters, Totals, meta, pagination};
use crate::api::upload::in_time;
use crate::api::{Call, upload};
use crate::domain::campaign::import::{Announced, Receiving};
use crate::domain::{Acting, Received, Service, campaign};
use crate::list_parameters;
use crate::model::id::ImportId;
use crate::model::import::{
    Delimiter, Encoding, Format, ImportCounts, ImportJob, ImportState, Problem, ProblemSort, UploadUrl,
};
use crate::model::page::{Page, PageRequest};
use crate::model::{Error, Result, Violation};
use crate::pb::v1;
use crate::pb::v1::import_recipients_request::Part;

/// How a file is to be read, as the numbers in a request say.
pub(super) fn format_of(delimiter: Option<i32>, encoding: Option<i32>) -> Format {
    let delimiter = delimiter.and_then(|number| v1::CsvDelimiter::try_from(number).ok());
    let encoding = encoding.and_then(|number| v1::CsvEncoding::try_from(number).ok());
    Format {
        delimiter: delimiter.and_then(|delimiter| match delimiter {
            v1::CsvDelimiter::Unspecified => None,
            v1::CsvDelimiter::Comma => Some(Delimiter::Comma),
            v1::CsvDelimiter::Semicolon => Some(Delimiter::Semicolon),
            v1::CsvDelimiter::Tab => Some(Delimiter::Tab),
        }),
        encoding: match encoding {
            Some(v1::CsvEncoding::Windows1252) => Encoding::Windows1252,
            Some(v1::CsvEncoding::Utf8 | v1::CsvEncoding::Unspecified) | None => Encoding::Utf8,
        },
    }
}

/// How a file is to be read, as the fields of a form say.
///
/// # Errors
/// Invalid, with every word that is none.
pub(in crate::api) fn format_of_words(delimiter: Option<&str>, encoding: Option<&str>) -> Result<Format> {
    let mut wrong = Vec::new();
    let mut refuse = |field: &str, rule: &str, word: &str| wrong.push(Violation::new(field, rule).received(word));
    let delimiter = delimiter.and_then(|word| match word {
        "comma" => Some(Delimiter::Comma),
        "semicolon" => Some(Delimiter::Semicolon),
        "tab" => Some(Delimiter::Tab),
        other => {
            refuse("delimiter", "must be one of comma, semicolon, tab", other);
            None
        }
    });
    let encoding = match encoding {
        None | Some("utf-8") => Encoding::Utf8,
        Some("windows-1252") => Encoding::Windows1252,
        Some(other) => {
            refuse("encoding", "must be one of utf-8, windows-1252", other);
            Encoding::Utf8
        }
    };
    match wrong.is_empty() {
        true => Ok(Format { delimiter, encoding }),
        false => Err(Error::invalid(wrong)),
    }
}

/// Reads the stream of a file to its end, and gives the file with the import that it becomes. What came is kept when the
/// stream breaks off.
pub(super) async fn receive(
    service: &Service,
    acting: &Acting,
    mut requests: Messages<v1::ImportRecipientsRequest>,
) -> Result<ImportJob> {
    let Some(Part::Head(head)) = requests.next().await?.and_then(|first| first.part) else {
        let rule = "must be the first message of the stream";
        return Err(Error::invalid(vec![Violation::new("head", rule)]));
    };
    let mut receiving = campaign::import::receive(service, acting, announced(head)?).await?;
    match in_time(read_chunks(&mut receiving, &mut requests)).await {
        Ok(()) => receiving.finish(service, acting).await,
        Err(fault) => {
            receiving.keep().await;
            Err(fault)
        }
    }
}

async fn read_chunks(receiving: &mut Receiving, requests: &mut Messages<v1::ImportRecipientsRequest>) -> Result<()> {
    while let Some(next) = requests.next().await? {
        match next.part {
            Some(Part::Chunk(chunk)) => {
                // The bounds of the contract have seen to the sign.
                let offset = u64::try_from(chunk.offset).unwrap_or_default();
                receiving.take(offset, chunk.data.into()).await?;
            }
            Some(Part::Head(_)) | None => {
                let rule = "must be in the first message of the stream alone";
                return Err(Error::invalid(vec![Violation::new("head", rule)]));
            }
        }
    }
    Ok(())
}

fn announced(head: v1::ImportRecipientsHead) -> Result<Announced> {
    Ok(Announced {
        campaign: id_of(&head.campaign_id)?,
        key: head.s3_key,
        format: format_of(head.delimiter, head.encoding),
        bytes_total: head.bytes_total.and_then(|bytes| u64::try_from(bytes).ok()),
        sha256: head.sha256,
    })
}

/// How much of a file has come.
pub(super) fn upload(key: String, found: Received, bytes_max: u64) -> v1::CampaignUpload {
    v1::CampaignUpload {
        s3_key: key,
        next_offset: convert::long(found.bytes),
        complete: found.is_complete,
        bytes_max: convert::long(bytes_max),
    }
}

/// Where a file can be uploaded to, as whoever made the call reaches the service.
pub(super) fn upload_url(found: UploadUrl, base: &str) -> v1::CreateCampaignUploadUrlResponse {
    let url = match found.is_whole {
        true => found.url,
        false => format!("{base}{}{}", upload::PATH, found.url),
    };
    v1::CreateCampaignUploadUrlResponse {
        url,
        s3_key: found.key,
        method: "PUT".to_owned(),
        bytes_max: convert::long(found.bytes_max),
        expires_at: Some(convert::timestamp(found.expires_at)),
    }
}

/// The address that URLs in the answer to a call begin with.
pub(super) fn base(call: &Call, public_url: Option<&str>) -> String {
    match (public_url, &call.authority) {
        (Some(url), _) => url.trim_end_matches('/').to_owned(),
        (None, Some(authority)) => format!("http://{authority}"),
        // Whoever names no host has to know where it is.
        (None, None) => String::new(),
    }
}

/// In the order of the file, unless the request says otherwise.
pub(super) fn page_of(request: &v1::ListCampaignImportErrorsRequest) -> Result<PageRequest<ProblemSort>> {
    let sort = |_: i32| Some(ProblemSort::Position);
    let mut parameters: ListParameters<ProblemSort> =
        list_parameters!(request, sort, { position => ProblemSort::Position });
    parameters.order = parameters.order.or(Some(v1::SortOrder::Asc.into()));
    // A position is unique by itself; the domain knows what the rows of this list have beside it.
    parameters
        .request(ProblemSort::Position, Totals::ByPage, |_| Some(uuid::Uuid::nil()))
        .map_err(Error::invalid)
}

/// One page of problems.
pub(super) fn problems(
    page: &PageRequest<ProblemSort>,
    (id, found): (ImportId, Page<Problem>),
) -> v1::ListCampaignImportErrorsResponse {
    v1::ListCampaignImportErrorsResponse {
        meta: Some(meta(page, &found, |_| id.to_string())),
        pagination: pagination(page, &found),
        errors: found.rows.into_iter().map(Into::into).collect(),
    }
}

impl From<Problem> for v1::ImportProblem {
    fn from(problem: Problem) -> Self {
        Self {
            position: convert::count(problem.position),
            line: convert::long(problem.line),
            column: problem.column,
            rule: problem.rule,
            received: problem.received,
        }
    }
}

impl From<ImportJob> for v1::ImportJob {
    fn from(job: ImportJob) -> Self {
        let (failure, failure_message) = job.failure.map(|failure| (failure.word, failure.message)).unzip();
        Self {
            id: job.id.to_string(),
            campaign_id: job.campaign.to_string(),
            state: state_number(job.state),
            s3_key: job.key,
            next_offset: convert::long(job.next_offset),
            bytes_total: job.bytes_total.map(convert::long),
            counts: Some(job.counts.into()),
            failure,
            failure_message,
            started_at: job.started_at.map(convert::timestamp),
            ended_at: job.ended_at.map(convert::timestamp),
            created_at: Some(convert::timestamp(job.created_at)),
        }
    }
}

fn state_number(state: ImportState) -> i32 {
    state.number().into()
}

impl From<ImportCounts> for v1::ImportCounts {
    fn from(counts: ImportCounts) -> Self {
        Self {
            rows: convert::count(counts.rows),
            added: convert::count(counts.added),
            duplicate: convert::count(counts.duplicate),
            unknown: convert::count(counts.unknown),
            failed: convert::count(counts.failed),
        }
    }
}
