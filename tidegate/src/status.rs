//! `tidegate status`: what a running gateway is doing, for people or as JSON.

pub(crate) mod oldest_segment;

use std::fmt::Write as _;

use crate::admin::flash_page::FlashPage;
use crate::admin::get;
use crate::admin::status_page::{
    BrokerPage, DamagedSegmentsPage, DegradedPage, GapPage, LastStartPage, RoutePage,
    RoutePartitionPage, StatusPage, StorePage,
};
use crate::cli::StatusOptions;
use crate::exit::Failure;
use crate::stdout::print;

/// Asks the gateway and prints.
pub(crate) fn run(options: &StatusOptions) -> Result<(), Failure> {
    if options.json {
        let page: serde_json::Value = get(options.admin.admin, "/status")?;
        print(&format!("{}\n", serde_json::to_string_pretty(&page)?))?;
        return Ok(());
    }
    let page: StatusPage = get(options.admin.admin, "/status")?;
    print(&describe(&page)?)?;
    Ok(())
}

fn describe(page: &StatusPage) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    if let Some(degraded) = &page.degraded {
        describe_degraded(&mut out, degraded)?;
    }
    let gateway = page.gateway_id.as_deref().unwrap_or("(no gateway_id)");
    let StatusPage {
        version,
        pid,
        uptime_seconds,
        ..
    } = page;
    writeln!(
        out,
        "tidegate {version} · {gateway} · pid {pid} · up {uptime_seconds} s"
    )?;
    describe_broker(&mut out, &page.broker)?;
    if let Some(store) = &page.store {
        describe_store(&mut out, store)?;
    }
    if let Some(start) = &page.last_start {
        describe_last_start(&mut out, start)?;
    }
    match &page.bridge {
        None => writeln!(out, "bridge     none configured")?,
        Some(bridge) => {
            writeln!(out, "bridge     {}", bridge.bootstrap.join(", "))?;
            for (name, route) in &bridge.routes {
                describe_route(&mut out, name, route)?;
            }
        }
    }
    Ok(out)
}

/// First of all: whoever reads no more than a line is to read this one.
fn describe_degraded(out: &mut String, degraded: &DegradedPage) -> std::fmt::Result {
    let DegradedPage {
        reason,
        seconds,
        attempts,
        remedy,
        ..
    } = degraded;
    let next = match degraded.next_attempt_seconds {
        Some(seconds) => format!("the next in {seconds} s"),
        None if degraded.needs_new_process => "no more: start the process again".to_owned(),
        None => "one is under way".to_owned(),
    };
    writeln!(out, "DEGRADED   {reason}")?;
    writeln!(
        out,
        "           for {seconds} s: only QoS 0 is served, live; QoS 1 is refused; nothing is stored or \
         replicated"
    )?;
    writeln!(
        out,
        "           {attempts} attempts to open the store, {next}"
    )?;
    writeln!(out, "           what to do: {remedy}")
}

fn describe_last_start(out: &mut String, start: &LastStartPage) -> std::fmt::Result {
    if start.events.is_empty() {
        return writeln!(out, "last start nothing out of the ordinary");
    }
    for event in &start.events {
        writeln!(out, "last start {}: {}", event.kind, event.what)?;
    }
    writeln!(
        out,
        "           `tidegate log verify` tells what can be read"
    )
}

fn describe_broker(out: &mut String, broker: &BrokerPage) -> std::fmt::Result {
    for listener in &broker.listeners {
        writeln!(
            out,
            "listener   {} · {} connections",
            listener.address, listener.connections
        )?;
    }
    writeln!(
        out,
        "broker     {} sessions · {} subscriptions · {} retained",
        broker.sessions, broker.subscriptions, broker.retained_messages
    )?;
    if broker.sessions_offline + broker.sessions_behind > 0 {
        writeln!(
            out,
            "           {} sessions without a connection · {} read what they missed",
            broker.sessions_offline, broker.sessions_behind
        )?;
    }
    writeln!(
        out,
        "           {} published · {} live only · {} refused · {} pending · {} held",
        broker.published,
        broker.live_only,
        broker.refused,
        broker.pending_publishes,
        broker.held_publishes
    )
}

fn describe_store(out: &mut String, store: &StorePage) -> std::fmt::Result {
    writeln!(
        out,
        "store      {} · {} · clock {}",
        store.data_dir, store.health, store.clock
    )?;
    writeln!(
        out,
        "           {} in {} segments · {} free · {} commits, {} syncs",
        size(store.bytes),
        store.segments,
        size(store.free_bytes),
        store.commits,
        store.syncs
    )?;
    for log in &store.full_logs {
        writeln!(
            out,
            "           log {log} is full: its publishes are refused, nothing of it may go"
        )?;
    }
    if store.evacuated_segments > 0 {
        writeln!(
            out,
            "           {} segments evacuated since the start, {} copied",
            store.evacuated_segments,
            size(store.evacuated_bytes)
        )?;
    }
    if let Some(line) = store.oldest_segment.as_ref().and_then(oldest_segment::line) {
        writeln!(out, "           {line}")?;
    }
    describe_damaged(out, &store.damaged_segments)?;
    if let Some(trouble) = &store.upkeep_trouble {
        writeln!(out, "           upkeep fails: {trouble}")?;
    }
    describe_flash(out, &store.flash)?;
    for gap in &store.gaps {
        let GapPage {
            log,
            partition,
            from,
            to,
            records,
            reason,
            ..
        } = gap;
        let most = if gap.at_most { "at most " } else { "" };
        let route = gap
            .route
            .as_ref()
            .map(|route| format!(" for route {route}"));
        let route = route.unwrap_or_default();
        writeln!(
            out,
            "gap        {log}-{partition} {from}..{to}: {most}{records} records{route}, {reason}"
        )?;
    }
    Ok(())
}

fn describe_damaged(out: &mut String, damaged: &DamagedSegmentsPage) -> std::fmt::Result {
    if damaged.count == 0 {
        return Ok(());
    }
    let names = damaged.first.join(", ");
    let more = match damaged.count > damaged.first.len() {
        true => ", …",
        false => "",
    };
    writeln!(
        out,
        "           DAMAGED segments found since the start: {} ({names}{more}); `tidegate log verify` \
         says what is lost",
        damaged.count
    )
}

fn describe_flash(out: &mut String, flash: &FlashPage) -> std::fmt::Result {
    for (when, used) in [
        ("since start", Some(&flash.since_start)),
        ("today", flash.today.as_ref()),
        ("yesterday", flash.yesterday.as_ref()),
        ("a day on average", flash.average_day.as_ref()),
    ] {
        let Some(used) = used else { continue };
        let dirtied = used
            .dirtied_bytes
            .map_or_else(|| "unknown".to_owned(), size);
        let factor = used
            .dirtied_per_payload_byte
            .map(|factor| format!(" ({factor} a byte)"))
            .unwrap_or_default();
        writeln!(
            out,
            "flash      {when}: {} of payload · {} written · {dirtied} dirtied{factor} · {} syncs",
            size(used.payload_bytes),
            size(used.written_bytes),
            used.syncs
        )?;
    }
    if flash.today.is_none() {
        writeln!(out, "           no days: the clock is not known")?;
    }
    if let Some(years) = flash.card_years {
        writeln!(
            out,
            "           the card lasts {years} years at the average day"
        )?;
    }
    if let Some(budget) = &flash.budget {
        let rate = budget
            .rate_bytes_per_day
            .map_or_else(|| "unknown".to_owned(), size);
        let exceeded = if budget.exceeded { ": EXCEEDED" } else { "" };
        writeln!(
            out,
            "           budget {} a day, now {rate} a day{exceeded} · linger {} ms",
            size(budget.bytes_per_day),
            budget.linger_ms
        )?;
    }
    Ok(())
}

fn describe_route(out: &mut String, name: &str, route: &RoutePage) -> std::fmt::Result {
    let RoutePage {
        log,
        topic,
        mode,
        lag_records,
        in_doubt,
        replicated,
        lost,
        ..
    } = route;
    writeln!(out, "route      {name}: {log} → {topic} · {mode}")?;
    let age = route
        .lag_seconds
        .map(|seconds| format!(", oldest {seconds} s"))
        .unwrap_or_default();
    writeln!(
        out,
        "           lag {lag_records} records{age} · {in_doubt} in doubt · {replicated} replicated · \
         {lost} lost"
    )?;
    for (what, text) in [("trouble", &route.trouble), ("remedy", &route.remedy)] {
        if let Some(text) = text {
            writeln!(out, "           {what}: {text}")?;
        }
    }
    let is_busy = |p: &&RoutePartitionPage| p.activity != "streaming" || p.lag_records > 0;
    for partition in route.partitions.iter().filter(is_busy) {
        let RoutePartitionPage {
            partition,
            target,
            activity,
            acknowledged,
            high_watermark,
            ..
        } = partition;
        writeln!(
            out,
            "           partition {partition} → {target}: {activity}, {acknowledged} of \
             {high_watermark} acknowledged"
        )?;
    }
    Ok(())
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    let units = [
        ("TiB", 1_u64 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    match units.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::{DamagedSegmentsPage, describe_damaged, size};

    #[test]
    fn damaged_segments_have_a_line_when_there_are_any() {
        let line = |count, names: &[&str]| {
            let mut out = String::new();
            let first = names.iter().map(ToString::to_string).collect();
            describe_damaged(&mut out, &DamagedSegmentsPage { count, first }).unwrap();
            out.trim().to_owned()
        };
        assert_eq!(line(0, &[]), "");
        assert_eq!(
            line(1, &["0000000002"]),
            "DAMAGED segments found since the start: 1 (0000000002); `tidegate log verify` says what is lost"
        );
        assert!(line(3, &["0000000002"]).contains("3 (0000000002, …)"));
    }

    #[test]
    fn sizes_have_the_unit_that_suits_them() {
        assert_eq!(size(17), "17 B");
        assert_eq!(size(2048), "2.0 KiB");
        assert_eq!(size(3 << 29), "1.5 GiB");
        assert_eq!(size(512 << 40), "512.0 TiB");
    }
}
