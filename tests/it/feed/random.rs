//! Random sends, repeats, marks, sweeps and passing time against the simplest thing that could be right: a list of items.
//! After every step all feeds and all unread counts, in all and by category, must be the list's.

use std::collections::{BTreeMap, BTreeSet};

use campanile::domain::{Acting, Service, Settings, app, category, channel, feed, notification, template};
use campanile::model::app::NewApp;
use campanile::model::category::NewCategory;
use campanile::model::channel::{ChannelType, NewChannel};
use campanile::model::feed::{FeedFilter, FeedItem, FeedSort, ReadState, Shown};
use campanile::model::id::{ApiKeyId, AppId, FeedItemId};
use campanile::model::notification::{SendRequest, Sent};
use campanile::model::page::{Affix, Order, PageRequest, Start};
use campanile::model::template::{DataType, NewTemplate, TemplateChannel, TemplateStatus};
use campanile::model::variable::VariableValue;
use campanile::model::{Caller, Reason, Result, Scope, Timestamp};
use campanile::worker::{Turn, sweep};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::race;
use crate::on_both;

/// Random walks for each database, and the steps of each.
const WALKS: usize = 6;
const STEPS: usize = 40;

pub(super) const USERS: [&str; 4] = ["ada", "bob", "eve", "sue"];
const HOUR: i64 = 3_600_000;
/// How long the service keeps items unless it is told otherwise.
const RETENTION: i64 = 90 * 24 * HOUR;

/// Templates that differ in what the counts depend on: category, whether it can be filtered by, hours of retention.
const TEMPLATES: [(Option<&str>, bool, u32); 4] = [
    (Some("News"), true, 0),
    (Some("Offers"), true, 2),
    (Some("News"), false, 1),
    (None, true, 3),
];

#[derive(Clone, Debug)]
enum Step {
    /// Sends a template to users, some of them twice.
    Send { template: usize, users: Vec<usize> },
    /// Makes an earlier send again, with its idempotency key.
    Repeat(usize),
    /// Marks one of all items ever sent, as a user whose item it may not be.
    Mark { mark: Mark, item: usize, user: usize },
    /// Marks some items as delivered, some of which may be another user's.
    DeliverMany { items: Vec<usize>, user: usize },
    /// Reads everything, or one category.
    ReadAll {
        category: Option<&'static str>,
        user: usize,
    },
    /// Sweeps until there is nothing to sweep.
    Sweep,
    /// Lets minutes pass.
    Wait(i64),
}

#[derive(Clone, Copy, Debug)]
enum Mark {
    Read,
    Deliver,
    Engage(u8),
    Delete,
}

fn step() -> impl Strategy<Value = Step> {
    let users = prop::collection::vec(0..USERS.len(), 1..6);
    prop_oneof![
        4 => (0..TEMPLATES.len(), users).prop_map(|(template, users)| Step::Send { template, users }),
        1 => any::<usize>().prop_map(Step::Repeat),
        8 => (mark(), any::<usize>(), 0..USERS.len()).prop_map(|(mark, item, user)| Step::Mark { mark, item, user }),
        1 => (prop::collection::vec(any::<usize>(), 1..6), 0..USERS.len())
            .prop_map(|(items, user)| Step::DeliverMany { items, user }),
        1 => (prop::sample::select(vec![None, Some("News"), Some("Offers"), Some("Nothing")]), 0..USERS.len())
            .prop_map(|(category, user)| Step::ReadAll { category, user }),
        1 => Just(Step::Sweep),
        3 => (1_i64..90).prop_map(Step::Wait),
        1 => (1_i64..60).prop_map(|days| Step::Wait(days * 24 * 60)),
    ]
}

fn mark() -> impl Strategy<Value = Mark> {
    prop_oneof![
        3 => Just(Mark::Read),
        2 => Just(Mark::Deliver),
        2 => (0_u8..3).prop_map(Mark::Engage),
        1 => Just(Mark::Delete),
    ]
}

/// An item as the model keeps it.
#[derive(Clone, Debug)]
struct Item {
    id: FeedItemId,
    user: usize,
    template: usize,
    text: String,
    sent_at: Timestamp,
    delivered_at: Option<Timestamp>,
    read_at: Option<Timestamp>,
    topics: BTreeMap<String, Timestamp>,
    deleted_at: Option<Timestamp>,
    purged: bool,
}

impl Item {
    fn is_visible(&self, now: Timestamp) -> bool {
        let (_, _, hours) = TEMPLATES[self.template];
        let expired = hours != 0 && now.millis() >= self.sent_at.millis() + i64::from(hours) * HOUR;
        !expired && self.is_there()
    }

    fn is_there(&self) -> bool {
        self.deleted_at.is_none() && !self.purged
    }

    fn is_of(&self, name: &str) -> bool {
        let (category, filterable, _) = TEMPLATES[self.template];
        filterable && category == Some(name)
    }

    fn deliver(&mut self, now: Timestamp) {
        self.delivered_at = self.delivered_at.or(Some(now));
    }

    fn read(&mut self, now: Timestamp) {
        self.read_at = self.read_at.or(Some(now));
        self.deliver(now);
    }
}

pub(super) struct World {
    service: Service,
    pub(super) app: AppId,
    now: Timestamp,
    items: Vec<Item>,
    sends: Vec<(Timestamp, SendRequest, Sent)>,
}

impl World {
    fn acting(&self, user: Option<&str>) -> Acting {
        acting(self.app, user, self.now)
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Send { template, users } => self.send(template, &users).await,
            Step::Repeat(which) if !self.sends.is_empty() => self.repeat(which % self.sends.len()).await,
            Step::Mark { mark, item, user } if !self.items.is_empty() => {
                self.mark(mark, item % self.items.len(), user).await;
            }
            Step::DeliverMany { items, user } if !self.items.is_empty() => self.deliver_many(&items, user).await,
            Step::Repeat(_) | Step::Mark { .. } | Step::DeliverMany { .. } => {}
            Step::ReadAll { category, user } => self.read_all(category, user).await,
            Step::Sweep => self.sweep().await,
            Step::Wait(minutes) => self.now = later(self.now, minutes * 60_000),
        }
    }

    async fn send(&mut self, template: usize, users: &[usize]) {
        let text = format!("send {}", self.sends.len());
        let request = send_request(template, users, &text);
        let acting = with_key(self.acting(None), self.sends.len());
        let sent = notification::send(&self.service, &acting, request.clone())
            .await
            .unwrap();
        assert!(!sent.replayed);
        for receiver in &sent.value.receivers {
            self.items.push(Item {
                id: receiver.deliveries[0].feed_item_id.unwrap(),
                user: USERS.iter().position(|uid| *uid == receiver.uid.as_str()).unwrap(),
                template,
                text: text.clone(),
                sent_at: self.now,
                delivered_at: None,
                read_at: None,
                topics: BTreeMap::new(),
                deleted_at: None,
                purged: false,
            });
        }
        self.sends.push((self.now, request, sent.value));
        // Items of one moment are ordered by their ids, and a moment is a millisecond.
        self.now = later(self.now, 1);
    }

    async fn repeat(&self, which: usize) {
        let (sent_at, request, first) = self.sends[which].clone();
        if self.now.millis() - sent_at.millis() >= 24 * HOUR {
            // The key is free again, and this would be another send.
            return;
        }
        let acting = with_key(self.acting(None), which);
        let again = notification::send(&self.service, &acting, request).await.unwrap();
        assert!(again.replayed);
        assert_eq!(again.value, first);
    }

    async fn mark(&mut self, mark: Mark, which: usize, user: usize) {
        let acting = self.acting(Some(USERS[user]));
        let (service, now) = (&self.service, self.now);
        let item = &mut self.items[which];
        let of_item = |answer: Result<campanile::domain::Written<FeedItem>>| answer.map(|written| Some(written.value));
        let answer = match mark {
            Mark::Read => of_item(feed::mark_read(service, &acting, item.id).await),
            Mark::Deliver => of_item(feed::mark_delivered(service, &acting, item.id).await),
            Mark::Engage(topic) => {
                let topic = format!("t{topic}").parse().unwrap();
                of_item(feed::engage(service, &acting, item.id, topic).await)
            }
            Mark::Delete => feed::delete(service, &acting, item.id).await.map(|written| {
                assert_eq!(written.value.deleted_at, item.deleted_at.unwrap_or(now));
                None
            }),
        };
        let again = matches!(mark, Mark::Delete) && !item.purged;
        if item.user != user || !(item.is_there() || again) {
            assert_eq!(answer.unwrap_err().reason(), Reason::FeedItemNotFound);
            return;
        }
        match mark {
            Mark::Read => item.read(now),
            Mark::Deliver => item.deliver(now),
            Mark::Engage(topic) => {
                item.topics.entry(format!("t{topic}")).or_insert(now);
            }
            Mark::Delete => item.deleted_at = item.deleted_at.or(Some(now)),
        }
        if let Some(answer) = answer.unwrap() {
            let state = answer.stored.state;
            assert_eq!((state.read_at, state.delivered_at), (item.read_at, item.delivered_at));
            assert_eq!(state.interacted_at, item.topics.values().min().copied());
            let topics = answer.stored.engagements.into_iter();
            let topics: BTreeMap<_, _> = topics
                .map(|engaged| (engaged.topic.to_string(), engaged.engaged_at))
                .collect();
            assert_eq!(topics, item.topics);
        }
    }

    async fn deliver_many(&mut self, which: &[usize], user: usize) {
        let which: BTreeSet<_> = which.iter().map(|item| item % self.items.len()).collect();
        let ids = which.iter().map(|item| self.items[*item].id).collect();
        let answer = feed::deliver_many(&self.service, &self.acting(Some(USERS[user])), ids).await;
        let mut expected = BTreeMap::new();
        let mut count = 0;
        for item in which {
            let item = &mut self.items[item];
            if item.user == user && item.is_there() {
                count += u32::from(item.delivered_at.is_none());
                item.deliver(self.now);
                expected.insert(item.id, item.delivered_at.unwrap());
            }
        }
        let delivered = answer.unwrap().value;
        assert_eq!((delivered.count, delivered.items), (count, expected));
    }

    async fn read_all(&mut self, category: Option<&str>, user: usize) {
        let read = feed::mark_all_read(&self.service, &self.acting(Some(USERS[user])), category).await;
        let mut expected = 0;
        for item in self
            .items
            .iter_mut()
            .filter(|item| item.user == user && item.is_visible(self.now))
        {
            if item.read_at.is_none() && category.is_none_or(|name| item.is_of(name)) {
                item.read(self.now);
                expected += 1;
            }
        }
        assert_eq!(read.unwrap().value, expected);
    }

    async fn sweep(&mut self) {
        while sweep::turn(&self.service, self.now).await == Turn::Again {}
        for item in &mut self.items {
            item.purged |= item.sent_at.millis() < self.now.millis() - RETENTION;
        }
    }

    async fn check(&self) {
        for (user, uid) in USERS.iter().enumerate() {
            let mut expected: Vec<&Item> = self.items.iter().filter(|item| item.user == user).collect();
            expected.retain(|item| item.is_visible(self.now));
            expected.sort_by_key(|item| std::cmp::Reverse((item.sent_at, item.id)));
            let expected_rows: Vec<_> = expected
                .iter()
                .map(|item| (item.id, item.text.clone(), item.read_at))
                .collect();
            assert_eq!(self.walk(uid, ReadState::All).await, expected_rows, "the feed of {uid}");

            expected.retain(|item| item.read_at.is_none());
            let unread = self.walk(uid, ReadState::Unread).await;
            assert_eq!(unread.len(), expected.len(), "the unread feed of {uid}");
            assert_eq!(self.count(uid, None).await, expected.len(), "the count of {uid}");
            for name in ["News", "Offers", "Nothing"] {
                let of_category = expected.iter().filter(|item| item.is_of(name));
                assert_eq!(
                    self.count(uid, Some(name)).await,
                    of_category.count(),
                    "{name} of {uid}"
                );
            }
        }
    }

    async fn count(&self, uid: &str, category: Option<&str>) -> usize {
        let acting = self.acting(Some(uid));
        let count = feed::unread_count(&self.service, &acting, None, category)
            .await
            .unwrap();
        usize::try_from(count).unwrap()
    }

    /// The whole feed, by cursor and three at a time.
    async fn walk(&self, uid: &str, read_state: ReadState) -> Vec<(FeedItemId, String, Option<Timestamp>)> {
        let mut request = PageRequest {
            limit: 3,
            sort: FeedSort::SentAt,
            order: Order::Descending,
            start: Start::First,
            totals: false,
        };
        let mut rows = Vec::new();
        loop {
            let acting = self.acting(Some(uid));
            let filter = FeedFilter {
                read_state,
                ..FeedFilter::default()
            };
            let page = feed::list(&self.service, &acting, &filter, &request, Shown::Content);
            let page = page.await.unwrap();
            rows.extend(page.rows.into_iter().map(|item| {
                let text = item.content.unwrap()["body"][0]["content"].as_str().unwrap().to_owned();
                (item.stored.id, text, item.stored.state.read_at)
            }));
            match page.next {
                Some(next) => request.start = Start::Cursor(Affix::Append, next),
                None => return rows,
            }
        }
    }
}

/// A send of one of the templates to some of the users.
pub(super) fn send_request(template: usize, users: &[usize], text: &str) -> SendRequest {
    SendRequest {
        template: format!("template-{template}"),
        receivers: users.iter().map(|user| USERS[*user].to_owned()).collect(),
        defaults: [("text".to_owned(), VariableValue::Text(text.to_owned()))].into(),
        ..SendRequest::default()
    }
}

/// The app, or one of its users.
pub(super) fn acting(app: AppId, user: Option<&str>, now: Timestamp) -> Acting {
    let caller = Caller::App {
        app,
        key: ApiKeyId::new(now),
        scope: Scope::FullAccess,
    };
    Acting::new(caller, user.map(|uid| uid.parse().unwrap()), now)
}

fn with_key(acting: Acting, number: usize) -> Acting {
    acting.with_key("SendNotification", false, format!("send-{number}"), [7; 32])
}

fn later(now: Timestamp, millis: i64) -> Timestamp {
    Timestamp::from_millis(now.millis() + millis).unwrap()
}

/// An app with the templates.
pub(super) async fn world(service: &Service, now: Timestamp) -> World {
    let name = NewApp {
        slug: None,
        name: "Shop".parse().unwrap(),
    };
    let operator = Acting::new(Caller::Operator, None, now);
    let app = app::create(service, &operator, name).await.unwrap().value.id;
    let acting = acting(app, None, now);
    let bell = NewChannel {
        slug: None,
        channel_type: ChannelType::InApp,
        name: "Bell".parse().unwrap(),
        enabled: true,
        metadata: None,
    };
    channel::create(service, &acting, bell).await.unwrap();
    for name in ["News", "Offers"] {
        let new = NewCategory {
            name: name.parse().unwrap(),
            description: None,
        };
        category::create(service, &acting, new).await.unwrap();
    }
    for (number, (category, filterable, hours)) in TEMPLATES.into_iter().enumerate() {
        template::create(service, &acting, new_template(number, category, filterable, hours))
            .await
            .unwrap();
    }
    World {
        service: service.clone(),
        app,
        now,
        items: Vec::new(),
        sends: Vec::new(),
    }
}

fn new_template(number: usize, category: Option<&str>, filterable: bool, hours: u32) -> NewTemplate {
    let card = serde_json::json!({
        "version": "1.0",
        "body": [{ "id": "t", "type": "text", "content": "{{text}}" }],
        "style": { "background": { "light": "#FFFFFF", "dark": "#000000" } },
        "fallbackText": "{{text}}",
    });
    NewTemplate {
        slug: Some(format!("template-{number}").parse().unwrap()),
        name: format!("Template {number}").parse().unwrap(),
        category: category.map(str::to_owned),
        label: None,
        alternative_text: None,
        tags: Vec::new(),
        status: TemplateStatus::Approved,
        channels: vec![TemplateChannel {
            channel_type: ChannelType::InApp,
            channel_id: None,
            content: card.as_object().cloned(),
            data_type: DataType::UiTemplate,
            category_filter_enabled: filterable,
            template_label_enabled: true,
            message_retention_hours: hours,
            step: campanile::model::template::sequence::Step::default(),
        }],
        variable_schema: Vec::new(),
        config: None,
    }
}

on_both! {
    async fn feeds_and_counts_are_those_of_a_simple_model(db) {
        let now = Timestamp::from_millis(1_800_000_000_000).unwrap();
        let service = Service::open(Settings::new(db.settings())).await.unwrap();
        let store = db.open().await;
        // The same walks every time, so a failure stays one until it is mended.
        let mut runner = TestRunner::deterministic();
        for walk in 0..WALKS {
            let steps = prop::collection::vec(step(), STEPS).new_tree(&mut runner).unwrap().current();
            let mut world = world(&service, later(now, i64::try_from(walk).unwrap())).await;
            for step in steps {
                world.take(step).await;
                world.check().await;
            }
            race::check_invariants(&store, world.app).await;
            let sent: BTreeMap<_, _> = world.items.iter().map(|item| (item.id, item)).collect();
            assert_eq!(sent.len(), world.items.len(), "every item has an id of its own");
        }
        service.close().await;
    }
}
