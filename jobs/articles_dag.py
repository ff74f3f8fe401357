"""Runs the articles job every five minutes from Airflow 3, in a pod of its own.

What the exit codes of tidegate mean here:

    0    success; the result document becomes the task's XCom
    99   nothing new (`--empty-exit-code`): the task is skipped, and so is all that waits for new data
    75   temporary: Airflow tries again, as `retries` says
    65, 77, 78  a person has to act: trying again is safe but does not help, so the task fails at once

A run that is killed or started twice does no harm: the table itself remembers how far the job has read.
"""

from datetime import datetime, timedelta

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG, Asset
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client import models as k8s

NOTHING_NEW = 99
NEEDS_A_PERSON = {2, 65, 77, 78, 101}

# DAGs scheduled on this asset run after every batch, and never without one.
ARTICLES = Asset("iceberg://demo/news/articles_raw")


class TidegateOperator(KubernetesPodOperator):
    """A pod whose exit code says whether trying again can help."""

    def cleanup(self, pod, remote_pod, *args, **kwargs):
        try:
            super().cleanup(pod, remote_pod, *args, **kwargs)
        except AirflowException as failure:
            if exit_code(remote_pod, self.base_container_name) in NEEDS_A_PERSON:
                raise AirflowFailException(str(failure)) from failure
            raise


def exit_code(pod, container):
    """Exit code of a pod's container; None while it runs, or when the pod is gone."""
    statuses = pod.status.container_statuses if pod and pod.status else None
    for status in statuses or []:
        if status.name == container and status.state and status.state.terminated:
            return status.state.terminated.exit_code
    return None


with DAG(
    dag_id="articles",
    description="News articles from Kafka into Iceberg, exactly once",
    schedule="*/5 * * * *",
    start_date=datetime(2026, 1, 1),
    # A run reads all that is new, so runs that were missed need not be made up for.
    catchup=False,
    # Two runs at once would do no harm, but the second would have nothing to do.
    max_active_runs=1,
) as dag:
    TidegateOperator(
        task_id="run",
        image="tidegate:0.1.0",
        arguments=[
            "run",
            "/etc/tidegate/articles.toml",
            "--empty-exit-code",
            "99",
            "--result-file",
            "/airflow/xcom/return.json",
        ],
        # Airflow reads the XCom from /airflow/xcom/return.json; `ti.xcom_pull("run")` is the result document.
        do_xcom_push=True,
        skip_on_exit_code=NOTHING_NEW,
        log_pod_spec_on_failure=False,
        # The job file names its places by these variables; there is no shell in the image that would set PWD.
        env_vars={"PWD": "/data", "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092"},
        volumes=[
            k8s.V1Volume(name="job", config_map=k8s.V1ConfigMapVolumeSource(name="articles")),
            k8s.V1Volume(
                name="warehouse",
                persistent_volume_claim=k8s.V1PersistentVolumeClaimVolumeSource(claim_name="warehouse"),
            ),
        ],
        volume_mounts=[
            k8s.V1VolumeMount(name="job", mount_path="/etc/tidegate", read_only=True),
            k8s.V1VolumeMount(name="warehouse", mount_path="/data/warehouse"),
        ],
        container_resources=k8s.V1ResourceRequirements(
            requests={"cpu": "500m", "memory": "1280Mi"}, limits={"memory": "1280Mi"}
        ),
        termination_grace_period=30,
        # Only what trying again can mend gets here.
        retries=3,
        retry_delay=timedelta(seconds=30),
        retry_exponential_backoff=True,
        outlets=[ARTICLES],
    )
