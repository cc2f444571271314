//! Clients beside the docker CLI, each as a test: docker-py and Prometheus themselves; Traefik and Portainer by
//! the requests that their sources make.

mod prometheus;
mod python;
mod requests;
