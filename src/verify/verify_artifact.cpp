#include "calque/verify/verify_artifact.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "calque/core/error.h"
#include "calque/eval/metrics.h"
#include "calque/io/file.h"
#include "verify/probe.h"

namespace calque::verify {
namespace {

using formats::ArtifactReader;
using verify::Finding;
using Verdict = Finding::Verdict;

Finding reload(Verdict verdict, std::string message) {
  return {verdict, "reload", std::move(message)};
}

Finding finite_logits(const Matrix<float>& logits_TV) {
  const float* end = logits_TV.data() + logits_TV.size();
  const float* bad = std::find_if(logits_TV.data(), end, [](float v) { return !std::isfinite(v); });
  if (bad == end)
    return reload(Verdict::kOk,
                  fmt::format("finite logits for a prompt of {} tokens", logits_TV.rows()));
  const Index position = (bad - logits_TV.data()) / logits_TV.cols();
  return reload(
      Verdict::kFault,
      fmt::format("the logits of position {} contain {}: the weights are damaged", position, *bad));
}

// Mean KL divergence over all positions, in nats.
double mean_divergence(const Matrix<float>& reference_TV, const Matrix<float>& logits_TV) {
  const auto size = static_cast<std::size_t>(logits_TV.cols());
  eval::Distribution p(size);
  eval::Distribution q(size);
  double sum = 0;
  for (Index t = 0; t < logits_TV.rows(); ++t) {
    p.set({reference_TV.row(t), size});
    q.set({logits_TV.row(t), size});
    sum += eval::compare(p, q, 0).kl;
  }
  return sum / static_cast<double>(logits_TV.rows());
}

Finding against_reference(const std::filesystem::path& folder, const std::vector<std::int32_t>& ids,
                          const Matrix<float>& logits_TV, int threads) {
  const auto reference = formats::open_artifact(folder);
  if (reference->config().vocab_size != logits_TV.cols())
    return reload(Verdict::kFault, fmt::format("the vocabulary has {} tokens, the reference's {}: "
                                               "the artifact was not made from this model",
                                               logits_TV.cols(), reference->config().vocab_size));
  const Matrix<float> reference_TV = prompt_logits(*reference, reference->config(), ids, threads);
  const double kl = mean_divergence(reference_TV, logits_TV);
  return reload(std::isfinite(kl) ? Verdict::kOk : Verdict::kFault,
                fmt::format("KL divergence from the reference {:.5f} nats over {} positions", kl,
                            logits_TV.rows()));
}

std::optional<Probe> stored_probe(const std::filesystem::path& artifact) {
  const std::filesystem::path file = artifact / "calque" / "metrics.json";
  if (!std::filesystem::is_regular_file(file)) return std::nullopt;
  return parse_probe(io::read_file(file));
}

void check_ids(const std::vector<std::int32_t>& ids, Index vocab_size) {
  for (const std::int32_t id : ids)
    if (id < 0 || id >= vocab_size)
      throw Error(
          ErrorKind::kInput, "E252",
          fmt::format("calque/metrics.json: the probe holds token {}, the vocabulary has {}", id,
                      vocab_size));
}

// Sums in another order move fp32 logits by about 1e-5 of their size; a changed weight by far more.
Finding against_probe(const Probe& probe, const float* last_logits) {
  double worst = 0;
  for (std::size_t i = 0; i < probe.top_ids.size(); ++i) {
    const double expected = probe.top_logits[i];
    const double actual = last_logits[probe.top_ids[i]];
    const double difference = std::abs(actual - expected);
    if (!(difference <= 1e-3 * (1 + std::abs(expected))))
      return reload(Verdict::kFault,
                    fmt::format("token {} has logit {:.6g} after the probe of calque/metrics.json, "
                                "{:.6g} when the artifact was made: weights or settings have "
                                "changed. Download the artifact again.",
                                probe.top_ids[i], actual, expected));
    worst = std::max(worst, difference);
  }
  return reload(Verdict::kOk,
                fmt::format("{} logits match those from when the artifact was made (largest "
                            "difference {:.1e})",
                            probe.top_ids.size(), worst));
}

std::vector<Finding> reload_artifact(const VerifyOptions& options) {
  const auto reader = formats::open_artifact(options.artifact);
  const Index vocab_size = reader->config().vocab_size;
  const std::optional<Probe> probe = stored_probe(options.artifact);
  if (probe) {
    check_ids(probe->ids, vocab_size);
    check_ids(probe->top_ids, vocab_size);
  }
  const std::vector<std::int32_t> ids =
      probe ? probe->ids : probe_prompt(options.artifact, vocab_size);
  const Matrix<float> logits_TV = prompt_logits(*reader, reader->config(), ids, options.threads);
  std::vector<Finding> findings = {finite_logits(logits_TV)};
  if (findings.back().verdict == Verdict::kFault) return findings;
  if (probe) findings.push_back(against_probe(*probe, logits_TV.row(logits_TV.rows() - 1)));
  if (!options.reference.empty())
    findings.push_back(against_reference(options.reference, ids, logits_TV, options.threads));
  return findings;
}

}  // namespace

std::vector<Finding> verify_artifact(const VerifyOptions& options) {
  std::vector<Finding> findings = verify::verify_files(options.artifact);
  try {
    for (Finding& finding : reload_artifact(options)) findings.push_back(std::move(finding));
  } catch (const Error& error) {
    // A build without a runner, or a family that calque cannot run, says nothing about the files.
    const bool cannot_run = error.kind() == ErrorKind::kConfig || error.code() == "E161";
    findings.push_back(reload(cannot_run ? Verdict::kWarning : Verdict::kFault, error.what()));
  }
  return findings;
}

}  // namespace calque::verify
