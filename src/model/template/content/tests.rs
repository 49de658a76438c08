use serde_json::json;

use super::*;
use crate::model::template::RequestedChannel;
use crate::model::variable::VariableValue;

fn channel(channel_type: ChannelType, data_type: DataType, content: &Value) -> RequestedChannel {
    TemplateChannel {
        channel_type,
        channel_id: None,
        content: content.as_object().cloned(),
        data_type,
        category_filter_enabled: false,
        template_label_enabled: false,
        message_retention_hours: 0,
        step: crate::model::template::sequence::Step::default(),
    }
}

fn problems(channel_type: ChannelType, content: &Value) -> Vec<String> {
    let channels = [channel(channel_type, DataType::UiTemplate, content)];
    let mut findings = Findings::default();
    check_channels(&channels, None, &mut findings);
    let found = findings.into_violations().into_iter();
    found
        .map(|violation| {
            format!(
                "{} {}",
                violation.field.replace("channels[0].content", "$"),
                violation.problem()
            )
        })
        .collect()
}

#[test]
fn every_type_takes_the_least_and_everything_that_it_knows() {
    let mail = |body: &str| json!({"subject": "s", body: "{{x}}"});
    for (channel_type, content) in [
        (ChannelType::Push, json!({"title": "t", "body": "b"})),
        (
            ChannelType::Push,
            json!({"title": "{{t}}", "body": "{{b}}\n", "imageUrl": "{{i}}", "deepLink": "{{d}}", "data": {"a.b-c_1": ""}}),
        ),
        (ChannelType::Email, mail("html")),
        (ChannelType::Email, mail("text")),
        (ChannelType::Email, mail("mjml")),
        (ChannelType::Email, json!({"subject": "s", "html": "h", "text": "t"})),
        (ChannelType::Email, json!({"subject": "s", "mjml": "m", "text": "t"})),
        (ChannelType::Sms, json!({"body": "b"})),
        (ChannelType::Whatsapp, json!({"body": "b"})),
        (ChannelType::Custom, json!({"body": "b"})),
    ] {
        assert_eq!(problems(channel_type, &content), [""; 0], "{content}");
    }
}

#[test]
fn every_type_names_what_it_lacks_and_does_not_know() {
    let not_known = |what: &str, knows: &str| format!("$.extra is not known here; the content of {what} holds {knows}");
    let extra = json!({"extra": 1});
    assert_eq!(
        problems(ChannelType::Push, &extra),
        [
            "$.title is required and must be a string of one line, of 1 to 255 characters",
            "$.body is required and must be a string that is not empty",
            &not_known("a push notification", "title, body, imageUrl, deepLink, data"),
        ]
    );
    assert_eq!(
        problems(ChannelType::Email, &extra),
        [
            "$.subject is required and must be a string of one line, of 1 to 998 characters",
            "$ must hold at least one of html, text, mjml",
            &not_known("a mail", "subject, html, text, mjml"),
        ]
    );
    for channel_type in [ChannelType::Sms, ChannelType::Whatsapp, ChannelType::Custom] {
        let lacks = "$.body is required and must be a string that is not empty";
        assert_eq!(problems(channel_type, &extra), [lacks, &not_known("a message", "body")]);
        let absent = format!("$ is required for channels of type {channel_type}");
        assert_eq!(problems(channel_type, &json!(null)), [absent]);
    }
    assert_eq!(problems(ChannelType::InApp, &json!(null)), [""; 0]);
}

#[test]
fn a_push_notification_is_as_large_as_the_services_take() {
    let least = json_bytes(&json!({"title": "t", "body": ""}));
    let of = |length: usize| problems(ChannelType::Push, &json!({"title": "t", "body": "x".repeat(length)}));
    assert_eq!(of(4_096 - least), [""; 0]);
    assert_eq!(
        of(4_097 - least),
        ["$ must not be larger than 4096 bytes as compact JSON, received \"4097\""]
    );
    for (key, taken) in [
        ("order", true),
        ("aps", false),
        ("from", false),
        ("google.x", false),
        ("gcm", false),
        ("fro", true),
    ] {
        let found = problems(
            ChannelType::Push,
            &json!({"title": "t", "body": "b", "data": {key: "x"}}),
        );
        assert_eq!(found.is_empty(), taken, "{key} {found:?}");
    }
}

#[test]
fn values_make_a_push_notification_no_larger_than_the_services_take() {
    let least = json_bytes(&json!({"title": "t", "body": ""}));
    let source = json!({"title": "t", "body": "{{a}}"});
    let of = |data_type, value: String| {
        let card = compile(&channel(ChannelType::Push, data_type, &source)).unwrap();
        let values = VariableValues::from([("a".to_owned(), VariableValue::Text(value))]);
        let rendered = json_bytes(&card.render(&values).unwrap());
        (rendered, card.faults(&values))
    };
    let ui = |value: String| of(DataType::UiTemplate, value);
    let too_large = |bytes: usize| Fault {
        keys: Vec::new(),
        rule: "must not make the push notification larger than 4096 bytes as compact JSON".to_owned(),
        received: Some(bytes.to_string()),
    };
    assert_eq!(ui("x".repeat(4_096 - least)), (4_096, vec![]));
    assert_eq!(ui("x".repeat(4_097 - least)), (4_097, vec![too_large(4_097)]));
    // Each takes two bytes in JSON.
    assert_eq!(ui("\n".repeat(2_000)), (4_000 + least, vec![]));
    assert_eq!(ui("\n".repeat(2_048)), (4_096 + least, vec![too_large(4_096 + least)]));
    assert_eq!(of(DataType::DataTemplate, "x".repeat(4_097)), (4_097 + least, vec![]));
}

#[test]
fn variables_fit_their_places_in_every_type() {
    let declared = [("hero", Typed::Image), ("press", Typed::Action)];
    let declared = Declared::from_pairs(&declared);
    let found = |channel_type: ChannelType, content: &Value| {
        let mut findings = Findings::default();
        check_message(
            channel_type,
            content.as_object().unwrap(),
            "$",
            Some(&declared),
            &mut findings,
        );
        assert!(!findings.has_faults());
        let found = findings.into_violations().into_iter();
        found
            .map(|violation| format!("{} {}", violation.field, violation.rule))
            .collect::<Vec<_>>()
    };
    let fits = json!({"title": "{{a}}", "body": "b", "imageUrl": "{{hero}}", "deepLink": "{{press}}"});
    assert_eq!(found(ChannelType::Push, &fits), [""; 0]);
    let fits = json!({"title": "t", "body": "b", "imageUrl": "{{a}}", "deepLink": "{{a}}"});
    assert_eq!(found(ChannelType::Push, &fits), [""; 0]);
    let not = json!({"title": "{{hero}}", "body": "{{press}}", "imageUrl": "{{press}}", "deepLink": "{{hero}}", "data": {"a": "{{hero}}"}});
    assert_eq!(
        found(ChannelType::Push, &not),
        [
            "$.title must hold variables of type string only, but {{hero}} is of type image",
            "$.body must hold variables of type string only, but {{press}} is of type action",
            "$.imageUrl must be a variable of type string or image, but {{press}} is of type action",
            "$.deepLink must be a variable of type string or action, but {{hero}} is of type image",
            "$.data.a must hold variables of type string only, but {{hero}} is of type image",
        ]
    );
    let mail = json!({"subject": "s", "html": "<a href=\"{{press}}\">{{hero}}</a>"});
    assert_eq!(
        found(ChannelType::Email, &mail),
        ["$.html must hold variables of type string only, but {{hero}} is of type image, {{press}} is of type action"]
    );
}

#[test]
fn what_was_stored_is_held_against_a_new_schema_only_in_its_variables() {
    let later = json!({"version": "2.0", "body": [{"id": "a", "type": "carousel"}, {"id": "b", "type": "text", "content": "{{a}}"}]});
    let stored = [
        channel(ChannelType::InApp, DataType::UiTemplate, &later),
        channel(ChannelType::Unknown(99), DataType::UiTemplate, &json!({"x": "{{a}}"})),
        channel(ChannelType::Sms, DataType::Unknown(99), &json!({"x": "{{a}}"})),
    ];
    let content = Content {
        channels: stored.map(|channel| channel.through(None)).to_vec(),
        variable_schema: Vec::new(),
    };
    assert!(check_fit(&content).is_ok());
    let image = [("a", Typed::Image)];
    let mut findings = Findings::of_variables();
    let declared = Declared::from_pairs(&image);
    card::check(later.as_object().unwrap(), Some(&declared), "$", &mut findings);
    let refused = findings.into_result().unwrap_err();
    assert_eq!(refused.reason(), Reason::InvalidVariables);
    assert_eq!(refused.violations().len(), 1);
    assert_eq!(refused.violations()[0].field, "$.body[1].content");
}

#[test]
fn content_of_the_apps_own_kind_is_not_looked_at() {
    let anything = json!({ "anything": [1, true] });
    let types = ChannelType::ALL.into_iter();
    let channels: Vec<_> = types
        .map(|channel_type| channel(channel_type, DataType::DataTemplate, &anything))
        .collect();
    assert!(check(Some(&channels), None).is_ok());
}

#[test]
fn a_channel_type_stands_in_a_template_once() {
    let card = Value::Object(card::titled("x"));
    let in_app = channel(ChannelType::InApp, DataType::UiTemplate, &card);
    let push = channel(
        ChannelType::Push,
        DataType::UiTemplate,
        &json!({"title": "t", "body": "b"}),
    );
    let refused = check(Some(&[in_app.clone(), push, in_app]), None).unwrap_err();
    assert_eq!(refused.reason(), Reason::Conflict);
    assert_eq!(refused.metadata(), [("channelType", "in_app".to_owned())]);
}
