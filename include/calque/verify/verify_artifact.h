#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "calque/formats/reader.h"
#include "calque/verify/verify.h"

namespace calque::verify {

// An artifact's answer when it was made: the largest logits after a short prompt, in fp32. Kept in
// calque/metrics.json under "probe", so that every copy can be checked against it.
struct Probe {
  std::vector<std::int32_t> ids;      // the prompt
  std::vector<std::int32_t> top_ids;  // at the last position, largest logit first
  std::vector<float> top_logits;
};

// The prompt of probes and reloads: 64 tokens of a fixed text if calque can read the folder's
// tokenizer, else ids i * 7919 % vocab_size.
std::vector<std::int32_t> probe_prompt(const std::filesystem::path& artifact,
                                       std::int64_t vocab_size);

Probe make_probe(const formats::ArtifactReader& reader, const std::vector<std::int32_t>& ids,
                 int threads = 0);

std::string probe_json(const Probe& probe);
// Reads the probe from the text of calque/metrics.json; nullopt if it holds none. Error(kInput) if
// it is damaged.
std::optional<Probe> parse_probe(const std::string& metrics_json);

struct VerifyOptions {
  std::filesystem::path artifact;
  std::filesystem::path reference;  // "": none
  int threads = 0;
};

// Runs verify_files and then the model on a short prompt. Its logits must be finite and, if there
// is a probe, |difference| <= 1e-3 * (1 + |logit|). With a reference, also reports the KL
// divergence on the prompt.
std::vector<verify::Finding> verify_artifact(const VerifyOptions& options);

}  // namespace calque::verify
