//! The demo's machines: coordinators, workers and members, as threads or as processes.

use holdfast_client::{ClientOptions, ControlApi, GrpcClient, v1};
use holdfast_env::Env;
use holdfast_types::Fault;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::child_node::ChildNode;
use super::thread_node::{Start, ThreadNode};
use super::wrong;
use crate::roles::{self, CoordinatorRole, MemberRole, WorkerRole};

/// The localities, each with a coordinator, a member and two workers.
pub(super) const LOCALITIES: [&str; 3] = ["region=eu-west", "region=us-east", "region=ap-south"];
/// Workers in each locality.
const WORKERS_PER_LOCALITY: usize = 2;
/// Tasks that a worker does at once.
pub(super) const SLOTS: u32 = 2;
/// How long the cluster may take to come up.
const COMES_UP_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The name of the source.
pub(super) const SOURCE: &str = "bank";

#[derive(Debug)]
enum Body {
    Thread(ThreadNode),
    Child(ChildNode),
}

/// One machine.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) address: String,
    body: Body,
}

impl Node {
    fn start_to_kill(&mut self) {
        match &mut self.body {
            Body::Thread(node) => node.kill(),
            Body::Child(node) => node.kill(),
        }
    }

    /// Kills it and waits until it is gone.
    async fn kill(mut self) {
        self.start_to_kill();
        if let Body::Child(node) = &mut self.body {
            node.gone().await;
        }
    }
}

/// All machines. Dropping it kills them and waits.
#[derive(Debug)]
pub(super) struct World {
    directory: PathBuf,
    processes: bool,
    key_file: String,
    coordinators: Vec<Node>,
    workers: Vec<Node>,
    members: Vec<Node>,
}

impl Drop for World {
    fn drop(&mut self) {
        // First all at once, then the waiting that comes with dropping each.
        for nodes in [&mut self.coordinators, &mut self.workers, &mut self.members] {
            nodes.iter_mut().for_each(Node::start_to_kill);
        }
    }
}

impl World {
    /// Starts everything, gives the cluster its identity, and registers the members as a source.
    pub(super) async fn start(
        env: &Env,
        directory: &Path,
        processes: bool,
    ) -> Result<(Self, GrpcClient), Fault> {
        let mut world = Self {
            directory: directory.to_owned(),
            processes,
            key_file: path_text(&directory.join("cluster.key")),
            coordinators: Vec::new(),
            workers: Vec::new(),
            members: Vec::new(),
        };
        roles::make_key(env, &world.key_file).await?;
        for node in 1..=LOCALITIES.len() as u64 {
            let started = world.start_coordinator(node).await?;
            world.coordinators.push(started);
        }
        let addresses: Vec<String> = world
            .coordinators
            .iter()
            .map(|c| c.address.clone())
            .collect();
        for locality in LOCALITIES {
            let member = world.start_member(locality).await?;
            world.members.push(member);
            for number in 1..=WORKERS_PER_LOCALITY {
                let worker = world.start_worker(locality, number, &addresses).await?;
                world.workers.push(worker);
            }
        }
        let api = GrpcClient::new(env.clone(), &addresses, ClientOptions::default())?;
        world.initialise(env, &api).await?;
        Ok((world, api))
    }

    async fn initialise(&self, env: &Env, api: &GrpcClient) -> Result<(), Fault> {
        let members = (1..)
            .zip(&self.coordinators)
            .map(|(node, coordinator)| v1::MemberAddress {
                node,
                address: coordinator.address.clone(),
            })
            .collect();
        api.init_cluster(v1::InitClusterRequest { members }).await?;
        let deadline = env.clock.monotonic() + COMES_UP_WITHIN;
        loop {
            let status = api.cluster_status().await?;
            if status.workers.len() == self.workers.len() {
                break;
            }
            if env.clock.monotonic() > deadline {
                return Err(wrong(format!(
                    "only {} of {} workers came up",
                    status.workers.len(),
                    self.workers.len()
                )));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let members = LOCALITIES
            .iter()
            .zip(&self.members)
            .map(|(locality, member)| v1::Member {
                name: member.name.clone(),
                locality: (*locality).to_owned(),
                address: member.address.clone(),
                ..v1::Member::default()
            })
            .collect();
        let source = v1::RegisterSourceRequest {
            name: SOURCE.to_owned(),
            kind: "mvcc".to_owned(),
            members,
        };
        api.register_source(source).await.map(|_| ())
    }

    /// The members: names and addresses.
    pub(super) fn members(&self) -> impl Iterator<Item = (&str, &str)> {
        self.members
            .iter()
            .map(|member| (member.name.as_str(), member.address.as_str()))
    }

    /// Kills a worker by its name.
    pub(super) async fn kill_worker(&mut self, name: &str) -> Result<(), Fault> {
        kill_one(&mut self.workers, name).await
    }

    /// Kills a coordinator by its number.
    pub(super) async fn kill_coordinator(&mut self, node: u64) -> Result<(), Fault> {
        kill_one(&mut self.coordinators, &coordinator_name(node)).await
    }

    fn path(&self, name: &str) -> String {
        path_text(&self.directory.join(name))
    }

    async fn launch(
        &self,
        name: String,
        start: Start,
        arguments: &[String],
    ) -> Result<Node, Fault> {
        let (body, address) = if self.processes {
            let (node, address) = ChildNode::start(&name, &self.directory, arguments).await?;
            (Body::Child(node), address)
        } else {
            let (node, address) = ThreadNode::start(&name, start).await?;
            (Body::Thread(node), address)
        };
        Ok(Node {
            name,
            address,
            body,
        })
    }

    async fn start_coordinator(&self, node: u64) -> Result<Node, Fault> {
        let name = coordinator_name(node);
        let role = CoordinatorRole {
            node,
            listen: "127.0.0.1:0".to_owned(),
            advertise: None,
            data_dir: self.path(&name),
            key_file: self.key_file.clone(),
            stores: holdfast_collection::StoreOptions::default(),
            alone: false,
            for_good: false,
        };
        let arguments = words(&[
            "start",
            "--role",
            "coordinator",
            "--node-id",
            &node.to_string(),
            "--listen",
            &role.listen,
            "--data-dir",
            &role.data_dir,
            "--key-file",
            &role.key_file,
        ]);
        let start: Start = Box::new(move |env| {
            Box::pin(async move {
                let coordinator = roles::start_coordinator(&env, role).await?;
                Ok((coordinator.address.clone(), Box::new(coordinator) as _))
            })
        });
        self.launch(name, start, &arguments).await
    }

    async fn start_worker(
        &self,
        locality: &str,
        number: usize,
        coordinators: &[String],
    ) -> Result<Node, Fault> {
        let name = format!("worker-{}-{number}", place(locality));
        let role = WorkerRole {
            id: name.parse()?,
            locality: locality
                .parse()
                .map_err(|error| wrong(format!("{error}")))?,
            slots: SLOTS,
            coordinators: coordinators.to_vec(),
            key_file: self.key_file.clone(),
            stores: holdfast_collection::StoreOptions::default(),
            work_dir: None,
            pg_tools: None,
        };
        let arguments = words(&[
            "start",
            "--role",
            "worker",
            "--worker-id",
            &name,
            "--locality",
            locality,
            "--slots",
            &SLOTS.to_string(),
            "--join",
            &coordinators.join(","),
            "--key-file",
            &role.key_file,
        ]);
        let start: Start = Box::new(move |env| {
            Box::pin(async move {
                let worker = roles::start_worker(&env, role).await?;
                Ok((String::new(), Box::new(worker) as _))
            })
        });
        self.launch(name, start, &arguments).await
    }

    async fn start_member(&self, locality: &str) -> Result<Node, Fault> {
        let name = format!("member-{}", place(locality));
        let role = MemberRole {
            directory: self.path(&name),
            listen: "127.0.0.1:0".to_owned(),
            time_to_live: None,
        };
        let arguments = words(&[
            "mvcc",
            "serve",
            "--data-dir",
            &role.directory,
            "--listen",
            &role.listen,
        ]);
        let start: Start = Box::new(move |env| {
            Box::pin(async move {
                let member = roles::start_member(&env, role).await?;
                Ok((member.address(), Box::new(member) as _))
            })
        });
        self.launch(name, start, &arguments).await
    }
}

async fn kill_one(nodes: &mut Vec<Node>, name: &str) -> Result<(), Fault> {
    let index = nodes
        .iter()
        .position(|node| node.name == name)
        .ok_or_else(|| wrong(format!("there is no {name} to kill")))?;
    nodes.swap_remove(index).kill().await;
    Ok(())
}

fn coordinator_name(node: u64) -> String {
    format!("coordinator-{node}")
}

/// The value of a locality's tier.
fn place(locality: &str) -> &str {
    locality.rsplit('=').next().unwrap_or(locality)
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
