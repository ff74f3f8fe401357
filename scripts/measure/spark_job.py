"""Spark as a peer: what is new in the topic since its checkpoint, MERGEd into an Iceberg table; then it ends.

    python -P spark_job.py SETTINGS     SETTINGS is JSON: see `spark.py`

Written as Spark's and Iceberg's documentation have it: Structured Streaming with AvailableNow, each batch
deduplicated by id and MERGEd in foreachBatch.
"""

import json
import sys

from pyspark.sql import SparkSession, Window
from pyspark.sql.functions import col, from_json, row_number

SCHEMA = (
    "id STRING, title STRING, source STRING, url STRING, content STRING, "
    "published_at TIMESTAMP, version BIGINT"
)
MERGE = """
    MERGE INTO lake.bench.articles AS target USING increment AS newest ON target.id = newest.id
    WHEN MATCHED AND (newest.published_at > target.published_at
        OR newest.published_at = target.published_at AND newest.version > target.version) THEN UPDATE SET *
    WHEN NOT MATCHED THEN INSERT *
"""


def session(settings):
    builder = SparkSession.builder.master("local[*]")
    for name, value in settings["spark"].items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def create(spark, properties):
    listed = ", ".join(f"'{name}' = '{value}'" for name, value in properties.items())
    spark.sql("CREATE NAMESPACE IF NOT EXISTS lake.bench")
    columns = SCHEMA.replace("id STRING", "id STRING NOT NULL", 1)
    spark.sql(
        f"CREATE TABLE IF NOT EXISTS lake.bench.articles ({columns}) USING iceberg TBLPROPERTIES ({listed})"
    )


def merge(batch, _):
    newest_first = Window.partitionBy("id").orderBy(col("published_at").desc(), col("version").desc())
    records = batch.select(from_json(col("value").cast("string"), SCHEMA).alias("record")).select("record.*")
    ranked = records.withColumn("place", row_number().over(newest_first))
    ranked.where("place = 1").drop("place").createOrReplaceTempView("increment")
    batch.sparkSession.sql(MERGE)


def main(text):
    settings = json.loads(text)
    spark = session(settings)
    create(spark, settings["properties"])
    stream = spark.readStream.format("kafka").options(**settings["kafka"]).load()
    query = (
        stream.writeStream.foreachBatch(merge)
        .trigger(availableNow=True)
        .option("checkpointLocation", settings["checkpoint"])
        .start()
    )
    query.awaitTermination()
    spark.stop()


main(sys.argv[1])
