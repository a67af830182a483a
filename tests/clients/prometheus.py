"""What Prometheus' own parser makes of `/metrics`, after requests of the model that is named."""

import math
import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def scrape(url: str) -> dict:
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = answer.read().decode()
    families = {}
    for family in text_string_to_metric_families(text):
        assert family.name not in families, f"{family.name} twice"
        assert family.type in ("counter", "gauge", "histogram"), f"{family.name} is {family.type}"
        assert family.documentation, f"{family.name} has no help"
        families[family.name] = family
    return families


def check_histogram(family) -> None:
    """Buckets grow up to +Inf, which has the count."""
    series: dict = {}
    for sample in family.samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        parts = series.setdefault(tuple(sorted(labels.items())), {"buckets": []})
        if sample.name.endswith("_bucket"):
            parts["buckets"].append((float(sample.labels["le"]), sample.value))
        else:
            parts[sample.name.rsplit("_", 1)[1]] = sample.value
    assert series, f"{family.name} is empty"
    for labels, parts in series.items():
        bounds, counts = zip(*sorted(parts["buckets"]))
        assert bounds[0] == 0.00005 and bounds[-2:] == (300.0, math.inf), (family.name, bounds)
        assert list(counts) == sorted(counts) and counts[-1] == parts["count"], (family.name, labels)
        assert parts["sum"] >= 0, (family.name, labels)


def main(url: str, model: str, requests: int) -> None:
    families = scrape(url)
    for family in families.values():
        if family.type == "histogram":
            check_histogram(family)
    answered = [
        sample.value
        for sample in families["weft_requests"].samples
        if sample.labels == {"model": model, "backend": "ort-cpu", "outcome": "ok"}
    ]
    assert answered == [requests], answered
    lanes = {(s.labels["backend"], s.labels["state"]): s.value for s in families["weft_lanes"].samples}
    assert lanes == {("ort-cpu", "ready"): 1}, lanes
    assert families["process_resident_memory_bytes"].samples[0].value > 1 << 20
    assert families["process_cpu_seconds"].samples[0].value > 0


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
