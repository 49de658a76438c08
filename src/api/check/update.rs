//! Update masks: what of a resource an update is about. It never applies one.

use prost_types::FieldMask;

use super::{Checked, Problems};

/// Settles the mask of an update: over REST the keys that the body had, else the mask that was sent, else the fields
/// that hold something. Afterwards it is there, holds names of top-level fields that callers may set, each once.
pub fn settle<R: Checked>(resource: Option<&R>, mask: &mut Option<FieldMask>, problems: &mut Problems) {
    if let Some(present) = problems.present.take() {
        let paths = present.into_iter().map(str::to_owned).collect();
        *mask = Some(FieldMask { paths });
        return;
    }
    let sent = mask.take().map(|mask| mask.paths).filter(|paths| !paths.is_empty());
    let paths = match sent {
        Some(paths) => known::<R>(paths, problems),
        None => held(resource),
    };
    *mask = Some(FieldMask { paths });
}

fn held<R: Checked>(resource: Option<&R>) -> Vec<String> {
    let Some(resource) = resource else { return Vec::new() };
    let fields = R::FIELDS.iter().enumerate();
    fields
        .filter(|(index, field)| !field.output_only && resource.holds(*index))
        .map(|(_, field)| field.proto.to_owned())
        .collect()
}

fn known<R: Checked>(sent: Vec<String>, problems: &mut Problems) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for path in sent {
        if path == "*" {
            let all = R::FIELDS.iter().filter(|field| !field.output_only);
            paths.extend(all.map(|field| field.proto.to_owned()));
            continue;
        }
        match R::FIELDS.iter().find(|field| field.proto == path) {
            Some(field) if field.output_only => {}
            Some(_) => paths.push(path),
            None => problems.field("updateMask", |problems| {
                problems.refuse("must name top-level fields of the resource, such as name", path);
            }),
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    paths.retain(|path| seen.insert(path.clone()));
    paths
}

/// Checks the fields of a resource that a mask names: a required field among them cannot be cleared.
pub fn check<R: Checked>(resource: &R, mask: Option<&FieldMask>, problems: &mut Problems) {
    let named = |proto: &str| mask.is_some_and(|mask| mask.paths.iter().any(|path| path == proto));
    for (index, field) in R::FIELDS.iter().enumerate() {
        if named(field.proto) {
            resource.check_field(index, problems);
        }
    }
}
