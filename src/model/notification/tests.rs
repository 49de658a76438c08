//! What a send is refused for before anything is looked up, which value wins, and what a page plans.

use super::*;
use crate::model::delivery::Counts;
use crate::model::id::{ChannelId, UserId};
use crate::model::render::OUTPUT_BYTES_MAX;
use crate::model::template::ChannelInstance;
use crate::model::variable::{VALUE_BYTES_MAX, VariableDefinition, VariableType, VariableValue};
use serde_json::json;

fn now() -> Timestamp {
    Timestamp::from_millis(1_705_311_000_000).unwrap()
}

fn values(pairs: &[(&str, &str)]) -> VariableValues {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), VariableValue::Text((*value).to_owned())))
        .collect()
}

fn request(receivers: &[&str]) -> SendRequest {
    SendRequest {
        template: "welcome".to_owned(),
        receivers: receivers.iter().map(|uid| (*uid).to_owned()).collect(),
        ..SendRequest::default()
    }
}

fn uid(text: &str) -> Uid {
    text.parse().unwrap()
}

fn fields(error: &Error) -> Vec<&str> {
    error
        .violations()
        .iter()
        .map(|violation| violation.field.as_str())
        .collect()
}

fn way(channel_type: ChannelType, enabled: Option<bool>) -> SendableChannel {
    SendableChannel {
        content: TemplateChannel {
            channel_type,
            channel_id: None,
            content: None,
            data_type: DataType::UiTemplate,
            category_filter_enabled: true,
            template_label_enabled: true,
            message_retention_hours: 0,
            step: crate::model::template::sequence::Step::default(),
        },
        instance: enabled.map(|enabled| ChannelInstance {
            id: ChannelId::new(now()),
            enabled,
        }),
        driven: false,
    }
}

fn template(schema: Vec<VariableDefinition>, channels: Vec<SendableChannel>) -> Sendable {
    Sendable {
        template_id: TemplateId::new(now()),
        name: "Welcome".parse().unwrap(),
        category: None,
        label: None,
        alternative_text: None,
        tags: Vec::new(),
        version_id: TemplateVersionId::new(now()),
        version: 1,
        variable_schema: schema,
        channels,
        sequence: None,
    }
}

fn definition(key: &str, required: bool, default: Option<&str>) -> VariableDefinition {
    VariableDefinition {
        key: key.to_owned(),
        variable_type: VariableType::String,
        name: None,
        required,
        default_value: default.map(|text| VariableValue::Text(text.to_owned())),
    }
}

#[test]
fn the_mode_follows_the_word_and_the_number_of_receivers() {
    assert_eq!(SendMode::choose(None, 10).unwrap(), SendMode::Realtime);
    assert_eq!(SendMode::choose(Some("realtime"), 1).unwrap(), SendMode::Realtime);
    assert_eq!(SendMode::choose(None, 11).unwrap(), SendMode::Batch);
    assert_eq!(SendMode::choose(None, 10_000).unwrap(), SendMode::Batch);
    assert_eq!(SendMode::choose(Some("batch"), 1).unwrap(), SendMode::Batch);
    for (word, received, reason) in [
        (Some("fast"), 1, Reason::InvalidMode),
        (Some("fast"), 10_001, Reason::InvalidMode),
        (Some(""), 1, Reason::InvalidMode),
        (Some("Realtime"), 1, Reason::InvalidMode),
        (Some("batch"), 10_001, Reason::TargetLimitExceeded),
        (Some("realtime"), 11, Reason::TargetLimitExceeded),
        (None, 10_001, Reason::TargetLimitExceeded),
    ] {
        assert_eq!(
            SendMode::choose(word, received).unwrap_err().reason(),
            reason,
            "{word:?} {received}"
        );
    }
    let refused = SendMode::choose(Some("realtime"), 11).unwrap_err();
    assert_eq!(
        refused.metadata(),
        [("limit", "10".to_owned()), ("received", "11".to_owned())]
    );
}

#[test]
fn the_limit_counts_receivers_before_duplicates_are_found() {
    let refused = NewSend::check(request(&["ada"; 10_001])).unwrap_err();
    assert_eq!(refused.reason(), Reason::TargetLimitExceeded);
    assert_eq!(NewSend::check(request(&["ada"; 11])).unwrap().mode, SendMode::Batch);
}

#[test]
fn a_receiver_that_is_named_again_in_any_case_is_counted_and_served_once() {
    let send = NewSend::check(request(&["Bob", "ada", "BOB", "bob"])).unwrap();
    assert_eq!(send.receivers, [uid("bob"), uid("ada")]);
    assert_eq!(send.duplicate_count, 2);
}

#[test]
fn every_violation_is_named_at_once() {
    let long = "x".repeat(VALUE_BYTES_MAX + 1);
    let mut asked = request(&["ada", "a b"]);
    asked.variables = BTreeMap::from([
        ("Ada".to_owned(), values(&[("code", "1")])),
        ("ada".to_owned(), values(&[("code", &long)])),
        ("grace".to_owned(), VariableValues::new()),
        ("é".to_owned(), VariableValues::new()),
    ]);
    asked.defaults = values(&[("fits", "ok"), ("large", &long)]);
    let refused = NewSend::check(asked).unwrap_err();
    assert_eq!(refused.reason(), Reason::BadRequest);
    assert_eq!(
        fields(&refused),
        [
            "receivers[1]",
            "variables.ada.code",
            "variables.ada",
            "variables.grace",
            "variables.é",
            "defaults.large"
        ]
    );
    assert_eq!(fields(&NewSend::check(request(&[])).unwrap_err()), ["receivers"]);
}

#[test]
fn each_receiver_gets_their_own_value_else_the_sends_else_the_templates() {
    let mut asked = request(&["ada", "bob"]);
    asked.variables = BTreeMap::from([("ADA".to_owned(), values(&[("code", "1"), ("extra", "e")]))]);
    asked.defaults = values(&[("code", "2")]);
    let schema = vec![definition("code", true, None), definition("name", true, Some("you"))];
    let settled = settle(
        &NewSend::check(asked).unwrap(),
        &template(schema, Vec::new()),
        &Compiled::default(),
    )
    .unwrap();
    assert_eq!(
        settled,
        [
            values(&[("code", "1"), ("extra", "e"), ("name", "you")]),
            values(&[("code", "2"), ("name", "you")])
        ]
    );
}

#[test]
fn what_is_required_and_missing_is_named_for_each_receiver() {
    let mut asked = request(&["ada", "bob"]);
    asked.variables = BTreeMap::from([("ada".to_owned(), values(&[("code", "1")]))]);
    let schema = vec![
        definition("code", true, None),
        definition("name", true, None),
        definition("soft", false, None),
    ];
    let refused = settle(
        &NewSend::check(asked).unwrap(),
        &template(schema, Vec::new()),
        &Compiled::default(),
    )
    .unwrap_err();
    assert_eq!(refused.reason(), Reason::InvalidVariables);
    assert_eq!(
        fields(&refused),
        ["variables.ada.name", "variables.bob.code", "variables.bob.name"]
    );
}

#[test]
fn values_that_would_make_the_card_too_large_are_refused_for_their_receiver() {
    let mut bell = way(ChannelType::InApp, Some(true)).content;
    bell.content = json!({ "body": "{{v}}".repeat(20) }).as_object().cloned();
    let content = Compiled::of([&bell]).unwrap();
    let mut asked = request(&["ada", "bob"]);
    let large = "x".repeat(VALUE_BYTES_MAX);
    asked.variables = BTreeMap::from([("bob".to_owned(), values(&[("v", &large)]))]);
    let sendable = template(Vec::new(), Vec::new());
    let refused = settle(&NewSend::check(asked).unwrap(), &sendable, &content).unwrap_err();
    assert_eq!(refused.reason(), Reason::InvalidVariables);
    assert_eq!(fields(&refused), ["variables.bob"]);
    assert!(refused.dev_message().contains(&OUTPUT_BYTES_MAX.to_string()));
}

#[test]
fn in_app_is_served_when_it_is_on_and_nothing_else_has_a_provider() {
    use ChannelType::{Email, InApp, Push};
    for (channel_type, enabled, expected) in [
        (InApp, Some(true), Verdict::ACCEPTED),
        (
            InApp,
            Some(false),
            Verdict::suppressed(DeliveryReason::CHANNEL_DISABLED),
        ),
        (InApp, None, Verdict::suppressed(DeliveryReason::CHANNEL_MISSING)),
        (
            Push,
            Some(true),
            Verdict::failed(DeliveryReason::PROVIDER_NOT_CONFIGURED),
        ),
        (Push, Some(false), Verdict::suppressed(DeliveryReason::CHANNEL_DISABLED)),
        (Email, None, Verdict::failed(DeliveryReason::PROVIDER_NOT_CONFIGURED)),
    ] {
        assert_eq!(
            verdict(&way(channel_type, enabled)),
            expected,
            "{channel_type} {enabled:?}"
        );
    }
}

#[test]
fn a_send_needs_one_way_that_is_not_suppressed() {
    use ChannelType::{InApp, Push};
    assert!(check_ways(&[way(InApp, Some(true)), way(Push, Some(false))]).is_ok());
    assert!(check_ways(&[way(InApp, Some(false)), way(Push, None)]).is_ok());
    let refused = check_ways(&[way(InApp, None), way(Push, Some(false))]).unwrap_err();
    assert_eq!(refused.reason(), Reason::InvalidState);
    assert_eq!(
        refused.metadata(),
        [
            ("state", "in_app channel_missing, push channel_disabled".to_owned()),
            ("allowed", "a channel that is enabled".to_owned())
        ]
    );
}

#[test]
fn only_active_users_get_lines_and_only_accepted_in_app_lines_get_feed_items() {
    let ways = [way(ChannelType::InApp, Some(true)), way(ChannelType::Push, None)];
    let ada = user::Resolved::Active(UserId::new(now()));
    let bob = user::Resolved::Deactivated(UserId::new(now()));
    let recipients = vec![
        (uid("ada"), ada, values(&[("a", "1")])),
        (uid("bob"), bob, VariableValues::new()),
        (uid("eve"), user::Resolved::Unknown, VariableValues::new()),
    ];
    let planned = plan(recipients, &ways, 1, now());
    assert_eq!(planned.iter().map(|one| one.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(planned.iter().map(|one| one.lines.len()).collect::<Vec<_>>(), [2, 0, 0]);

    let lines = &planned.first().unwrap().lines;
    let items: Vec<_> = lines
        .iter()
        .map(|line| line.delivery.feed_item_id.map(|item| item.uuid() == line.id.uuid()))
        .collect();
    assert_eq!(items, [Some(true), None]);

    let channels = [ChannelType::InApp, ChannelType::Push];
    let reasons: Vec<Vec<_>> = planned
        .iter()
        .map(|one| {
            let deliveries = one.receiver(&channels, 1).deliveries;
            deliveries.into_iter().map(|delivery| delivery.verdict.reason).collect()
        })
        .collect();
    assert_eq!(
        reasons,
        [
            [None, Some(DeliveryReason::PROVIDER_NOT_CONFIGURED)],
            [
                Some(DeliveryReason::USER_DEACTIVATED),
                Some(DeliveryReason::USER_DEACTIVATED)
            ],
            [Some(DeliveryReason::UNKNOWN_USER), Some(DeliveryReason::UNKNOWN_USER)]
        ]
    );
}

#[test]
fn a_notification_ends_as_its_counts_say() {
    let of = |sent, failed, skipped| NotificationStatus::of(Counts { sent, failed, skipped });
    assert_eq!(of(2, 0, 1), NotificationStatus::Completed);
    assert_eq!(of(0, 0, 3), NotificationStatus::Completed);
    assert_eq!(of(0, 1, 3), NotificationStatus::Failed);
    assert_eq!(of(1, 1, 0), NotificationStatus::PartiallyFailed);
}
