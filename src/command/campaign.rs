//! `campanile campaign`: a campaign from the file to its end, over the public API as any other client would do it. It
//! decides nothing; everything that it knows of a campaign the server has told it.

mod audience;
mod client;
mod show;
mod upload;

use std::path::PathBuf;

use campanile::config::Config;
use campanile::model::Timestamp;
use campanile::model::campaign::schedule::When;
use campanile::pb::v1;
use clap::{Args, Subcommand, ValueEnum};
use v1::watch_campaign_response::Event;
use v1::{Campaign, CampaignStatus};

use super::Fault;
use audience::Audience;
use client::Client;
use show::Screen;

/// The exit code when it was sent and somebody, or some row of the file, was left out.
const PARTLY: u8 = 3;
/// The exit code behind Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;
/// Recipients that are told one by one when they could not be reached.
const TOLD_MAX: i32 = 20;

#[derive(Subcommand)]
pub(super) enum CampaignCommand {
    /// Send a template to everybody in a CSV file, and watch it to its end
    ///
    /// Exits with 0 when everybody was reached, with 3 when somebody or some row of the file was left out, and with 1 when it
    /// could not be sent.
    Send(Send),
}

#[derive(Args)]
pub(super) struct Send {
    /// The CSV file; its first row names the columns, one of which is `user_id`
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// The approved template, by its id
    #[arg(long, value_name = "ID", required_unless_present = "resume")]
    template: Option<String>,
    /// What the campaign is called; the name of the file when absent
    #[arg(long)]
    name: Option<String>,
    /// What stands between the cells; found out from the first row when absent
    #[arg(long, value_enum)]
    delimiter: Option<DelimiterWord>,
    /// How the letters are encoded
    #[arg(long, value_enum, default_value = "utf-8")]
    encoding: EncodingWord,
    /// Send it at a time and not now: 2030-03-31T09:00:00Z, or 2030-03-31T09:00 with a time zone
    #[arg(long, value_name = "TIME")]
    schedule: Option<String>,
    /// The time zone of the schedule, such as Europe/Rome
    #[arg(long, value_name = "ZONE", requires = "schedule")]
    time_zone: Option<String>,
    /// Send nothing when a row of the file is wrong or somebody would be left out
    #[arg(long)]
    strict: bool,
    /// Show what would become of everybody, and delete the draft again
    #[arg(long, conflicts_with_all = ["no_send", "schedule"])]
    dry_run: bool,
    /// Show what would become of everybody, and leave the draft as it is
    #[arg(long, conflicts_with = "schedule")]
    no_send: bool,
    /// Go on with a campaign that was begun before, by the key that was printed then
    #[arg(long, value_name = "KEY", conflicts_with_all = ["template", "name"])]
    resume: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum DelimiterWord {
    /// ,
    Comma,
    /// ;
    Semicolon,
    /// A tab
    Tab,
}

#[derive(Clone, Copy, ValueEnum)]
enum EncodingWord {
    /// UTF-8, with or without a byte order mark
    #[value(name = "utf-8")]
    Utf8,
    /// Windows-1252, as older spreadsheets write it
    #[value(name = "windows-1252")]
    Windows1252,
}

impl Send {
    /// The command that goes on with it as it was begun.
    fn again(&self, key: &str) -> String {
        let encoding = Some(&self.encoding).filter(|word| matches!(word, EncodingWord::Windows1252));
        let valued = [
            ("delimiter", self.delimiter.as_ref().and_then(word_of)),
            ("encoding", encoding.and_then(word_of)),
            ("schedule", self.schedule.clone()),
            ("time-zone", self.time_zone.clone()),
        ];
        let plain = [
            ("strict", self.strict),
            ("dry-run", self.dry_run),
            ("no-send", self.no_send),
        ];
        let mut again = format!("campanile campaign send --file {} --resume {key}", self.file.display());
        for (flag, value) in valued {
            if let Some(value) = value {
                again.push_str(&format!(" --{flag} {value}"));
            }
        }
        for (flag, _) in plain.into_iter().filter(|(_, is_given)| *is_given) {
            again.push_str(&format!(" --{flag}"));
        }
        again
    }

    /// When it is to be sent, in a request that names no campaign yet. Whether that is in time the server knows.
    fn scheduled(&self) -> Result<Option<v1::ScheduleCampaignRequest>, Fault> {
        let Some(time) = &self.schedule else {
            return Ok(None);
        };
        let mut request = v1::ScheduleCampaignRequest {
            time_zone: self.time_zone.clone(),
            ..v1::ScheduleCampaignRequest::default()
        };
        if self.time_zone.is_some() {
            let when = When {
                at: None,
                local: Some(time.clone()),
                time_zone: self.time_zone.clone(),
            };
            if !is_local(time) || when.instant().is_err() {
                let rule = "--schedule must be a time such as 2030-03-31T09:00 where there is a --time-zone, and that one \
                            such as Europe/Rome";
                return Err(Fault::Usage(rule.to_owned()));
            }
            request.scheduled_local = Some(time.clone());
        } else {
            let rule = |_| {
                Fault::Usage("--schedule must be a time such as 2030-03-31T09:00:00Z, or have a --time-zone".to_owned())
            };
            let millis = time.parse::<Timestamp>().map_err(rule)?.millis();
            request.scheduled_at = Some(prost_types::Timestamp {
                seconds: millis.div_euclid(1_000),
                nanos: i32::try_from(millis.rem_euclid(1_000) * 1_000_000).unwrap_or_default(),
            });
        }
        Ok(Some(request))
    }
}

/// Runs one of the commands about campaigns.
pub(super) async fn run(config: &Config, command: CampaignCommand) -> Result<(), Fault> {
    let CampaignCommand::Send(send) = command;
    let (client, screen) = (Client::open(&config.api)?, Screen::new());
    let flow = Flow {
        client: &client,
        screen: &screen,
        send: &send,
    };
    tokio::select! {
        ended = Box::pin(flow.run()) => ended.map_err(|fault| screen.failed(&send, fault)),
        heard = tokio::signal::ctrl_c() => {
            heard.map_err(|fault| Fault::System("signals cannot be heard".to_owned(), fault))?;
            Err(Fault::Ended(INTERRUPTED, screen.interrupted(&send)))
        }
    }
}

/// One campaign on its way.
struct Flow<'f> {
    client: &'f Client,
    screen: &'f Screen,
    send: &'f Send,
}

impl Flow<'_> {
    async fn run(&self) -> Result<(), Fault> {
        let schedule = self.send.scheduled()?;
        let (campaign, key) = self.begin().await?;
        let audience = Audience {
            client: self.client,
            screen: self.screen,
            campaign: &campaign.id,
        };
        if status(&campaign) != CampaignStatus::Draft {
            // It was sent before: what is left is to see it end.
            self.screen.sent(&campaign.id);
            let failed = audience.left_out().await?;
            return self.watch(&campaign.id, failed).await;
        }
        let file = upload::File::look(&self.send.file).await?;
        let failed = audience.import(self.send, file, &key).await?;
        let (plan, left_out) = audience.preflight().await?;
        let wrong = failed + left_out;
        if self.send.dry_run {
            self.delete(&campaign.id).await?;
            return ended(wrong, "the campaign would leave out");
        }
        if self.send.no_send {
            self.screen.line(&format!("{} stays a draft", campaign.id))?;
            self.screen.settled();
            return ended(wrong, "the campaign would leave out");
        }
        if self.send.strict && wrong > 0 {
            let problem = format!(
                "nothing was sent, because {wrong} rows or recipients would be left out; {} stays a draft",
                campaign.id
            );
            return Err(Fault::Ended(PARTLY, problem));
        }
        if let Some(request) = schedule {
            self.schedule(&campaign.id, request).await?;
            return ended(wrong, "the campaign is scheduled and leaves out");
        }
        self.start(&campaign.id, plan).await?;
        self.watch(&campaign.id, failed).await
    }

    /// Makes the campaign and asks for the key of its file, or finds both again.
    async fn begin(&self) -> Result<(Campaign, String), Fault> {
        if let Some(key) = &self.send.resume {
            let (campaign_id, _) = key.split_once('/').ok_or_else(|| {
                Fault::Usage("--resume must be the key that was printed when the campaign was begun".to_owned())
            })?;
            self.screen.begun(key);
            let request = v1::GetCampaignRequest {
                campaign_id: campaign_id.to_owned(),
            };
            let found = self
                .client
                .call(&request, async |mut api, request| api.get_campaign(request).await);
            return Ok((found.await?.campaign.unwrap_or_default(), key.clone()));
        }
        let stem = self.send.file.file_stem().unwrap_or_default().to_string_lossy();
        let name = self.send.name.clone().unwrap_or_else(|| stem.into_owned());
        // Before anything is made on the server.
        upload::File::check(&self.send.file).await?;
        let campaign = Campaign {
            name,
            template_id: self.send.template.clone().unwrap_or_default(),
            ..Campaign::default()
        };
        let request = v1::CreateCampaignRequest {
            campaign: Some(campaign),
        };
        let made = self
            .client
            .call(&request, async |mut api, request| api.create_campaign(request).await);
        let campaign = made.await?.campaign.unwrap_or_default();
        self.screen
            .line(&format!("campaign {} is a draft, {:?}", campaign.id, campaign.name))?;
        let request = v1::CreateCampaignUploadUrlRequest {
            campaign_id: campaign.id.clone(),
        };
        let given = self.client.call(&request, async |mut api, request| {
            api.create_campaign_upload_url(request).await
        });
        let key = given.await?.s3_key;
        self.screen.begun(&key);
        self.screen
            .line(&format!("  should it stop, go on with --resume {key}"))?;
        Ok((campaign, key))
    }

    async fn delete(&self, id: &str) -> Result<(), Fault> {
        let request = v1::DeleteCampaignRequest {
            campaign_id: id.to_owned(),
            ..v1::DeleteCampaignRequest::default()
        };
        let deleted = self
            .client
            .call(&request, async |mut api, request| api.delete_campaign(request).await);
        deleted.await?;
        self.screen.settled();
        self.screen.over();
        self.screen.line("nothing was sent, and the draft is deleted")
    }

    async fn schedule(&self, id: &str, mut request: v1::ScheduleCampaignRequest) -> Result<(), Fault> {
        request.campaign_id = id.to_owned();
        let scheduled = self
            .client
            .call(&request, async |mut api, request| api.schedule_campaign(request).await);
        scheduled.await?;
        self.screen.settled();
        self.screen.over();
        let at = self.send.schedule.as_deref().unwrap_or_default();
        self.screen.line(&format!("{id} is scheduled for {at}"))
    }

    async fn start(&self, id: &str, plan: String) -> Result<(), Fault> {
        let request = v1::SendCampaignRequest {
            campaign_id: id.to_owned(),
            plan_token: Some(plan),
            ..v1::SendCampaignRequest::default()
        };
        let sent = self
            .client
            .call(&request, async |mut api, request| api.send_campaign(request).await);
        sent.await?;
        self.screen.sent(id);
        Ok(())
    }

    /// Shows how far it comes until it ends. A stream that breaks off is opened again.
    async fn watch(&self, id: &str, failed_rows: u64) -> Result<(), Fault> {
        let request = v1::WatchCampaignRequest {
            campaign_id: id.to_owned(),
            cursor: None,
        };
        let mut broken = 0;
        loop {
            let mut events = self
                .client
                .call(&request, async |mut api, request| api.watch_campaign(request).await)
                .await?;
            loop {
                match events.message().await {
                    Ok(Some(v1::WatchCampaignResponse {
                        event: Some(Event::Progress(progress)),
                        ..
                    })) => {
                        broken = 0;
                        self.screen.progress(&progress)?;
                        if is_final(progress.status) {
                            return self.end(id, &progress, failed_rows).await;
                        }
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => {
                        let ended = tonic::Status::unavailable("the stream ended before the campaign did");
                        self.client.wait(&ended, broken).await?;
                        break;
                    }
                    Err(status) => {
                        self.client.wait(&status, broken).await?;
                        break;
                    }
                }
            }
            broken += 1;
        }
    }

    /// Tells how it ended, and who was not reached and why.
    async fn end(&self, id: &str, progress: &v1::CampaignProgress, failed_rows: u64) -> Result<(), Fault> {
        self.screen.over();
        let counts = progress.recipients.unwrap_or_default();
        let word = show::status_word(progress.status);
        self.screen.line(&format!(
            "{id} is {word}: {} reached, {} failed, {} cancelled",
            counts.completed, counts.failed, counts.cancelled
        ))?;
        if counts.failed > 0 {
            self.tell_failed(id).await?;
        }
        self.screen.settled();
        match CampaignStatus::try_from(progress.status) {
            Ok(CampaignStatus::Completed | CampaignStatus::PartiallyFailed) => {
                let failed = u64::try_from(counts.failed).unwrap_or_default();
                ended(failed_rows + failed, "the campaign left out")
            }
            _ => Err(Fault::Ended(1, format!("the campaign is {word}"))),
        }
    }

    async fn tell_failed(&self, id: &str) -> Result<(), Fault> {
        let request = v1::ListCampaignRecipientsRequest {
            campaign_id: id.to_owned(),
            status: Some(v1::RecipientStatus::Failed.into()),
            limit: Some(TOLD_MAX),
            ..v1::ListCampaignRecipientsRequest::default()
        };
        let listed = self.client.call(&request, async |mut api, request| {
            api.list_campaign_recipients(request).await
        });
        for recipient in listed.await?.recipients {
            let request = v1::GetCampaignRecipientRequest {
                campaign_id: id.to_owned(),
                uid: recipient.uid.clone(),
            };
            let found = self.client.call(&request, async |mut api, request| {
                api.get_campaign_recipient(request).await
            });
            let found = found.await?.recipient.unwrap_or_default();
            self.screen
                .line(&format!("  {}: {}", recipient.uid, show::why(&found)))?;
        }
        Ok(())
    }
}

fn status(campaign: &Campaign) -> CampaignStatus {
    CampaignStatus::try_from(campaign.status).unwrap_or_default()
}

fn is_final(status: i32) -> bool {
    match CampaignStatus::try_from(status) {
        Ok(
            CampaignStatus::Completed
            | CampaignStatus::PartiallyFailed
            | CampaignStatus::Failed
            | CampaignStatus::Cancelled,
        ) => true,
        Ok(
            CampaignStatus::Unspecified
            | CampaignStatus::Draft
            | CampaignStatus::Scheduled
            | CampaignStatus::Sending
            | CampaignStatus::Paused,
        )
        | Err(_) => false,
    }
}

/// The word that stands for a value on the command line.
fn word_of(value: &impl ValueEnum) -> Option<String> {
    value.to_possible_value().map(|word| word.get_name().to_owned())
}

/// Whether a local time has the form that the contract takes; what reads it takes more, such as a date alone.
fn is_local(text: &str) -> bool {
    ["0000-00-00T00:00", "0000-00-00T00:00:00"].iter().any(|form| {
        let is_in_place = |(is, form): (u8, u8)| is == form || form == b'0' && is.is_ascii_digit();
        text.len() == form.len() && text.bytes().zip(form.bytes()).all(is_in_place)
    })
}

/// Success, unless somebody was left out.
fn ended(left_out: u64, what: &str) -> Result<(), Fault> {
    match left_out {
        0 => Ok(()),
        1 => Err(Fault::Ended(PARTLY, format!("{what} 1 row or recipient, see above"))),
        more => Err(Fault::Ended(
            PARTLY,
            format!("{what} {more} rows or recipients, see above"),
        )),
    }
}
