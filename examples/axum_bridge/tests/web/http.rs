//! Requests, by a real client.

use crate::support::{Changes, Service, answer, client, value, within_limit};
use mproc::prelude::*;
use mproc::{CallError, Event, ReplyToken, ServeOptions};
use mproc_axum_bridge::{Add, SQUARE, TOTALS};
use reqwest::StatusCode;
use std::sync::Arc;
use std::task::Wake;
use tokio::sync::mpsc;

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_there() {
    let service = Service::start().await;
    let (status, page) = answer(service.get("/")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("new EventSource('/changes')"), "{page}");
    let (status, _) = answer(service.get("/nothing")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_calls_the_processor_and_has_its_reply() {
    let service = Service::start().await;
    assert_eq!(value(service.get("/total")).await, 0);
    assert_eq!(value(service.add(5)).await, 5);
    assert_eq!(value(service.add(-7)).await, -2);
    // It is the same processor for whoever has its address.
    assert_eq!(service.counter.call(Add(12)).await.unwrap(), 10);
    assert_eq!(value(service.get("/total")).await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scraper_gets_what_the_node_counts() {
    let service = Service::start().await;
    let handled = r#"mproc_processor_messages_handled_total{processor="counter",driver="counter"}"#;
    for n in 1..=3 {
        assert_eq!(value(service.add(1)).await, n);
        let scraped = service.get("/metrics").send().await.unwrap();
        assert_eq!(scraped.status(), StatusCode::OK);
        assert_eq!(
            scraped.headers()["content-type"],
            mproc::metrics::CONTENT_TYPE
        );
        let text = scraped.text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(handled));
        assert_eq!(line, Some(&*format!("{handled} {n}")), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handlers_fault_is_a_500_with_its_reason() {
    let service = Service::start().await;
    assert_eq!(value(service.add(i64::MAX)).await, i64::MAX);
    let failed = answer(service.add(1)).await;
    let reason = "handler failed: the total would be too large".to_owned();
    assert_eq!(failed, (StatusCode::INTERNAL_SERVER_ERROR, reason));
    assert_eq!(value(service.get("/total")).await, i64::MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_command_does_not_reach_the_processor() {
    let service = Service::start().await;
    let url = format!("http://{}/add", service.address);
    let json = service
        .client
        .post(&url)
        .header("content-type", "application/json");
    for body in ["", "{", "{}", r#"{"n":"five"}"#, r#"{"n":1e30}"#] {
        let (status, said) = answer(json.try_clone().unwrap().body(body)).await;
        assert!(status.is_client_error(), "{body}: {status} {said}");
    }
    assert_eq!(service.counter.snapshot().handled, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_called_as_soon_as_it_is_there_and_no_longer() {
    let service = Service::start().await;
    let (status, why) = answer(service.get("/square/7")).await;
    assert_eq!(
        (status, &*why),
        (StatusCode::SERVICE_UNAVAILABLE, "nobody serves it")
    );
    let server = service.serve_square();
    assert_eq!(value(service.get("/square/7")).await, 49);
    let (status, why) = answer(service.get(&format!("/square/{}", i64::MAX))).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(why, "server failed: the square is too large");
    drop(server);
    let (status, _) = answer(service.get("/square/7")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_a_server_is_a_500_and_the_next_request_comes_all_the_same() {
    let service = Service::start().await;
    let picky = |n: i64| -> Outcome<i64> {
        assert!(n != 3, "three is too much");
        Ok(n)
    };
    let _server = service.node.serve(SQUARE, picky).unwrap();
    let (status, why) = answer(service.get("/square/3")).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(why.ends_with("panicked: three is too much"), "{why}");
    assert_eq!(value(service.get("/square/4")).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_has_ended_is_a_503() {
    let service = Service::start().await;
    service.counter.stop();
    service.counter.ended().await.unwrap();
    let (status, why) = answer(service.add(1)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_come_in_order_to_every_browser() {
    let service = Service::start().await;
    let mut browsers = Vec::new();
    for _ in 0..3 {
        browsers.push(Changes::open(service.get("/changes")).await);
    }
    for n in 1..=100 {
        assert_eq!(value(service.add(1)).await, n);
    }
    for changes in &mut browsers {
        let (first, total) = changes.total().await.unwrap();
        assert_eq!(total, 1);
        for n in 1..100 {
            let next = changes.total().await.unwrap();
            assert_eq!(next, (first + n, 1 + n as i64));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_dropped_unsubscribes() {
    let service = Service::start().await;
    let totals = service.node.publisher(&TOTALS).unwrap();
    let events = service.node.events().unwrap();
    let left = async |left: usize| loop {
        let event = within_limit("an event", events.recv().limit(Duration::MAX))
            .await
            .unwrap();
        if let Event::SubscriberUnmatched { topic, subscribers } = &*event
            && topic == "counter/total"
        {
            assert_eq!(*subscribers, left);
            return;
        }
    };
    let idle = Changes::open(service.get("/changes")).await;
    let mut busy = Changes::open(service.get("/changes")).await;
    assert_eq!(totals.subscriber_count(), 2);
    // One that never had an event, and one in mid stream.
    drop(idle);
    left(1).await;
    totals.publish(1).unwrap();
    assert_eq!(busy.total().await.unwrap().1, 1);
    drop(busy);
    left(0).await;
    assert_eq!(totals.subscriber_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_are_handled_one_at_a_time() {
    const COUNT: i64 = 200;
    let service = Service::start().await;
    let mut changes = Changes::open(service.get("/changes")).await;
    let requests: Vec<_> = (0..COUNT)
        .map(|_| tokio::spawn(value(service.add(1))))
        .collect();
    let mut totals = Vec::new();
    for request in requests {
        totals.push(request.await.unwrap());
    }
    // Each has seen another total, so nobody's addition was lost.
    totals.sort_unstable();
    assert_eq!(totals, (1..=COUNT).collect::<Vec<_>>());
    for n in 1..=COUNT {
        assert_eq!(changes.total().await.unwrap().1, n);
    }
}

/// Tells a test that it was woken.
struct Tells(mpsc::UnboundedSender<()>);

impl Wake for Tells {
    fn wake(self: Arc<Self>) {
        // The test may be over.
        let _ = self.0.send(());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_goes_takes_its_call_back() {
    let service = Service::start().await;
    let (tell_request, mut requests) = mpsc::unbounded_channel::<ReplyToken<i64>>();
    let (tell_cancel, mut cancels) = mpsc::unbounded_channel();
    let waits = move |_: i64, cx: &mut Cx<'_, mproc::Closure<i64, i64>, i64>| {
        cx.reply_later(|token| {
            token.on_cancel(Arc::new(Tells(tell_cancel.clone())).into());
            // The test may be over.
            let _ = tell_request.send(token);
        })
    };
    let _server = service
        .node
        .serve_with(SQUARE, ServeOptions::new(), waits)
        .unwrap();
    let request = tokio::spawn(service.get("/square/2").send());
    let token = within_limit("a request", requests.recv()).await.unwrap();
    assert!(!token.is_cancelled());
    // The client's future is dropped, and closes its connection.
    request.abort();
    within_limit("its cancel", cancels.recv()).await.unwrap();
    assert!(token.is_cancelled());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_handler_may_block_a_thread_of_the_server() {
    let service = Service::start().await;
    // What a handler would do that waits and does not await.
    let counter = service.counter.clone();
    let blocked = tokio::spawn(async move { counter.call(Add(1)).wait() })
        .await
        .unwrap();
    assert!(matches!(blocked, Err(CallError::InExecutor)), "{blocked:?}");
    assert_eq!(value(service.get("/total")).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_progress_at_the_end_is_answered_and_streams_end() {
    let service = Service::start().await;
    let (tell_request, mut requests) = mpsc::unbounded_channel::<ReplyToken<i64>>();
    let server = service
        .node
        .serve_with(SQUARE, ServeOptions::new(), move |_: i64, cx| {
            cx.reply_later(|token| drop(tell_request.send(token)))
        });
    let _server = server.unwrap();
    let mut changes = Changes::open(service.get("/changes")).await;
    assert_eq!(value(service.add(4)).await, 4);
    let in_progress = tokio::spawn(value(service.get("/square/2")));
    let token = within_limit("a request", requests.recv()).await.unwrap();
    let (node, counter) = (service.node.clone(), service.counter.clone());
    let late = client().get(format!("http://{}/", service.address));
    let ended = tokio::spawn(service.end());
    assert_eq!(changes.total().await.unwrap().1, 4);
    assert_eq!(changes.total().await, None);
    assert!(!ended.is_finished());
    token.send(44);
    assert_eq!(within_limit("the answer", in_progress).await.unwrap(), 44);
    within_limit("the end", ended).await.unwrap();
    assert!(late.send().await.unwrap_err().is_connect());
    // The node was there until then, and is still.
    assert_eq!(counter.call(Add(1)).await.unwrap(), 5);
    let report = tokio::task::spawn_blocking(move || node.shutdown(Duration::from_secs(5)));
    assert!(report.await.unwrap().is_clean());
}
