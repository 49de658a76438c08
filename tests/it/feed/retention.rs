//! What the sweep does to feeds and to what is recorded of sends: expiry is noticed, what is old goes for good, and so does
//! what a deleted user left. Called by hand with a chosen `now`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use campanile::domain::{Acting, Service, Settings, feed, notification, user};
use campanile::model::Timestamp;
use campanile::model::id::{AppId, FeedItemId};
use campanile::store::Store;
use campanile::store::entity::{feed_head, feed_item, notification as notifications};
use campanile::worker::{Turn, sweep};
use sea_orm::{EntityTrait, QueryOrder};

use super::random::{USERS, acting, send_request, world};
use super::{fast, race};
use crate::on_both;
use crate::support::database::TestDatabase;
use crate::support::rows::rows;

/// How long an API call may wait while the sweep works: far less than the sweep as a whole takes, far more than one unit.
const WAIT_MAX: Duration = Duration::from_millis(1_500);

/// How long that test sweeps.
const SWEEP_MAX: Duration = Duration::from_secs(6);

/// Everything that a send writes.
const OF_SENDS: [&str; 7] = [
    "feed_items",
    "feed_item_engagements",
    "feed_heads",
    "notifications",
    "notification_recipients",
    "pages",
    "deliveries",
];

fn noon() -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000).unwrap()
}

fn days(days: u64) -> Timestamp {
    noon().plus(Duration::from_secs(days * 24 * 60 * 60))
}

fn hours(hours: u64) -> Timestamp {
    noon().plus(Duration::from_secs(hours * 60 * 60))
}

async fn open(db: &TestDatabase) -> (Service, Store, AppId) {
    let service = Service::open(Settings::new(db.settings())).await.unwrap();
    let app = world(&service, noon()).await.app;
    (service, db.open().await, app)
}

/// Sends and gives the new items, in the order of the users.
async fn send(service: &Service, acting: &Acting, template: usize, users: &[usize]) -> Vec<FeedItemId> {
    let sent = notification::send(service, acting, send_request(template, users, "x"))
        .await
        .unwrap();
    sent.value
        .receivers
        .iter()
        .map(|receiver| receiver.deliveries[0].feed_item_id.unwrap())
        .collect()
}

async fn counts(store: &Store) -> BTreeMap<String, i64> {
    let mut rows = rows(store).await;
    rows.retain(|table, _| OF_SENDS.contains(&table.as_str()));
    rows
}

async fn items(store: &Store) -> Vec<feed_item::Model> {
    let items = feed_item::Entity::find()
        .order_by_asc(feed_item::Column::Seq)
        .all(store.read())
        .await;
    items.unwrap()
}

async fn sweep_all(service: &Service, now: Timestamp) -> u64 {
    let mut turns = 0;
    while sweep::turn(service, now).await == Turn::Again {
        turns += 1;
        assert!(turns < 10_000, "the sweep never rests");
    }
    turns
}

on_both! {
    async fn what_has_expired_leaves_the_counts_in_batches_and_each_change_has_its_number(db) {
        let (service, store, app) = open(&db).await;
        // Template 1 keeps its items for two hours, template 0 for good.
        send(&service, &acting(app, None, noon()), 1, &[0, 1, 2]).await;
        let each = fast::fill_with(&store, app, 150, &[]).await + 1;
        send(&service, &acting(app, None, noon()), 0, &[0, 3]).await;
        let read = items(&store).await.iter().find(|item| item.seq == 7).unwrap().id;
        let reader = items(&store).await.iter().find(|item| item.seq == 7).unwrap().user_id;
        let uid = campanile::store::user::find_uids(store.read(), app, [reader]).await.unwrap().remove(&reader).unwrap();
        feed::mark_read(&service, &acting(app, Some(uid.as_str()), noon()), read).await.unwrap();
        assert_eq!(sweep::turn(&service, hours(2).minus(Duration::from_millis(1))).await, Turn::Rest);
        race::check_invariants(&store, app).await;

        let turns = sweep_all(&service, hours(2)).await;
        assert!(turns >= 3, "{turns} turns");
        race::check_invariants(&store, app).await;
        let heads = feed_head::Entity::find().all(store.read()).await.unwrap();
        let mut unread: Vec<_> = heads.iter().map(|head| head.unread).collect();
        unread.sort_unstable();
        assert_eq!(unread, [0, 0, 1, 1]);
        let each = i64::try_from(each).unwrap();
        for item in items(&store).await.iter().filter(|item| item.expires_at.is_some()) {
            assert!(!item.counted && item.change_seq > each, "{item:?}");
            assert_eq!(item.read_at.is_some(), item.id == read);
        }
        assert_eq!(sweep_all(&service, hours(3)).await, 0);
        assert_eq!(counts(&store).await["feed_items"], 3 * each + 2);
    }

    async fn what_is_old_goes_with_all_that_nothing_else_refers_to(db) {
        let (service, store, app) = open(&db).await;
        let old = send(&service, &acting(app, None, noon()), 0, &[0, 1]).await;
        let topic = "clicked".parse().unwrap();
        feed::engage(&service, &acting(app, Some(USERS[0]), noon()), old[0], topic).await.unwrap();
        feed::mark_read(&service, &acting(app, Some(USERS[1]), noon()), old[1]).await.unwrap();
        send(&service, &acting(app, None, days(1)), 3, &[0, 2]).await;
        let before = counts(&store).await;
        assert_eq!(before["notifications"], 2);

        // To the instant of ninety days nothing goes.
        assert_eq!(sweep_all(&service, days(90)).await, 1);
        assert_eq!(counts(&store).await, before);
        assert!(sweep_all(&service, days(90).plus(Duration::from_millis(1))).await > 0);
        race::check_invariants(&store, app).await;
        let after = counts(&store).await;
        let expected = [2, 0, 3, 1, 2, 1, 2];
        let expected: BTreeMap<_, _> = OF_SENDS.iter().map(|table| (*table).to_owned()).zip(expected).collect();
        assert_eq!(after, expected);
        let heads = feed_head::Entity::find().all(store.read()).await.unwrap();
        let mut purged: Vec<_> = heads.iter().map(|head| (head.purged_seq, head.unread)).collect();
        purged.sort_unstable();
        // Ada's item was sent and engaged with, bob's sent and read, and sue's is there.
        assert_eq!(purged, [(0, 0), (2, 0), (2, 0)]);

        let gone = feed::get(&service, &acting(app, None, days(90)), old[0], campanile::model::feed::Shown::Content).await;
        assert_eq!(gone.unwrap_err().reason(), campanile::model::Reason::FeedItemNotFound);
        assert!(sweep_all(&service, days(92)).await > 0);
        let left = counts(&store).await;
        assert_eq!(left.values().sum::<i64>(), left["feed_heads"], "{left:?}");
    }

    async fn a_notification_stays_while_a_feed_item_of_it_does(db) {
        let (service, store, app) = open(&db).await;
        send(&service, &acting(app, None, noon()), 0, &[0, 1]).await;
        // One of its items came late, as those of a batch may.
        fast::run(&store, vec!["UPDATE feed_items SET sent_at = sent_at + 864000000 WHERE seq = 1 AND id IN \
            (SELECT id FROM feed_items ORDER BY id LIMIT 1)".to_owned()]).await;
        sweep_all(&service, days(91)).await;
        let left = counts(&store).await;
        assert_eq!((left["feed_items"], left["deliveries"], left["notifications"], left["notification_recipients"]), (1, 1, 1, 2));
        assert_eq!(sweep_all(&service, days(91)).await, 0);
        sweep_all(&service, days(101)).await;
        assert_eq!(notifications::Entity::find().all(store.read()).await.unwrap(), []);
        assert_eq!(counts(&store).await["deliveries"], 0);
    }

    async fn what_was_made_long_before_it_was_sent_stands_in_nobodys_way(db) {
        let (service, store, app) = open(&db).await;
        for _ in 0..60 {
            send(&service, &acting(app, None, noon()), 0, &[0]).await;
        }
        send(&service, &acting(app, None, hours(1)), 0, &[1]).await;
        // The first ones were sent by workers ten days later.
        let (made, sent) = (noon().millis(), days(10).millis());
        fast::run(&store, vec![
            format!("UPDATE feed_items SET sent_at = {sent} WHERE sent_at = {made}"),
            format!("UPDATE notifications SET completed_at = {sent} WHERE created_at = {made}"),
        ]).await;
        sweep_all(&service, days(91)).await;
        assert_eq!(counts(&store).await["notifications"], 60);
        sweep_all(&service, days(101)).await;
        assert_eq!(counts(&store).await["notifications"], 0);
    }

    async fn a_deleted_user_leaves_no_feed_behind(db) {
        let (service, store, app) = open(&db).await;
        send(&service, &acting(app, None, noon()), 0, &[0, 1]).await;
        let each = fast::fill_with(&store, app, 250, &[]).await + 1;
        let item = send(&service, &acting(app, None, noon()), 0, &[0]).await[0];
        feed::engage(&service, &acting(app, Some(USERS[0]), noon()), item, "a".parse().unwrap()).await.unwrap();
        user::delete(&service, &acting(app, None, noon()), USERS[0].parse().unwrap()).await.unwrap();
        let turns = sweep_all(&service, noon()).await;
        assert!(turns >= 3, "{turns} turns");
        let left = counts(&store).await;
        let each = i64::try_from(each).unwrap();
        assert_eq!((left["feed_items"], left["feed_heads"], left["feed_item_engagements"]), (each, 1, 0));
        assert_eq!(left["deliveries"], 3);
        race::check_invariants(&store, app).await;
        assert_eq!(sweep_all(&service, noon()).await, 0);
    }

    async fn several_processes_sweep_at_once_and_nothing_is_swept_twice(db) {
        let (service, store, app) = open(&db).await;
        send(&service, &acting(app, None, noon()), 1, &[0, 1, 2, 3]).await;
        fast::fill_with(&store, app, 300, &[]).await;
        let mut others = Vec::new();
        for _ in 0..3 {
            others.push(Service::open(Settings::new(db.settings())).await.unwrap());
        }
        futures::future::join_all(others.iter().map(|other| sweep_all(other, hours(2)))).await;
        sweep_all(&service, hours(2)).await;
        race::check_invariants(&store, app).await;
        let heads = feed_head::Entity::find().all(store.read()).await.unwrap();
        // Sent once each, copied, and changed once each.
        assert!(heads.iter().all(|head| head.unread == 0 && head.seq == 2 * 301), "{heads:?}");
        futures::future::join_all(others.iter().map(|other| sweep_all(other, days(91)))).await;
        sweep_all(&service, days(91)).await;
        let left = counts(&store).await;
        assert_eq!(left.values().sum::<i64>(), left["feed_heads"], "{left:?}");
    }

    async fn calls_do_not_wait_for_a_large_sweep(db) {
        let (service, store, app) = open(&db).await;
        send(&service, &acting(app, None, noon()), 1, &[0, 1, 2, 3]).await;
        fast::fill_with(&store, app, 25_000, &[]).await;
        let sweeper = service.clone();
        #[expect(clippy::disallowed_methods, reason = "a test's task ends with its runtime")]
        let sweeping = tokio::spawn(async move {
            let started = Instant::now();
            // Long enough to tell; to its end it takes a slow machine minutes.
            while started.elapsed() < SWEEP_MAX && sweep::turn(&sweeper, hours(2)).await == Turn::Again {}
            started.elapsed()
        });
        let (mut slowest, mut calls) = (Duration::ZERO, 0);
        while !sweeping.is_finished() {
            let started = Instant::now();
            send(&service, &acting(app, None, hours(2)), 0, &[0, 1, 2, 3]).await;
            slowest = slowest.max(started.elapsed());
            calls += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let whole = sweeping.await.unwrap();
        let unread: i32 = feed_head::Entity::find().all(store.read()).await.unwrap().iter().map(|head| head.unread).sum();
        assert!(unread < 4 * (25_000 + calls), "nothing was swept meanwhile");
        assert!(calls > 3 && whole > WAIT_MAX, "{calls} calls in {whole:?} are too few to tell anything");
        assert!(slowest < WAIT_MAX, "a call waited for {slowest:?} of {whole:?}");
        race::check_invariants(&store, app).await;
    }
}
