#include "resume/run_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "calque/io/gguf.h"
#include "calque/io/sha256.h"

namespace calque::resume {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kHashedWhole = std::uint64_t{8} << 30;
constexpr std::string_view kSha256 = "sha256 ";
constexpr std::string_view kSampled = "sampled sha256 ";

bool cannot_change_the_result(const std::string& key) {
  static const std::set<std::string> kKeys = {"run_dir", "runtime.threads", "runtime.max_ram",
                                              "runtime.offload_dir", "runtime.checkpoint"};
  return kKeys.count(key) > 0;
}

bool is_weights(const fs::path& file) {
  return file.extension() == ".safetensors" || file.extension() == ".gguf";
}

// Other formats of the weights that lie beside are not read.
std::vector<fs::path> files_of_model(const fs::path& model) {
  if (!fs::is_directory(model)) return io::gguf_files_of(model);
  constexpr std::uint64_t kLargestSideFile = std::uint64_t{256} << 20;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(model))
    if (entry.is_regular_file() &&
        (is_weights(entry.path()) || entry.file_size() <= kLargestSideFile))
      files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

std::string sampled_sha256(const fs::path& path) {
  constexpr std::size_t kStep = std::size_t{1} << 20, kSample = 4096;
  const io::MappedFile file(path);
  const auto bytes = file.bytes();
  std::vector<std::byte> samples;
  for (std::size_t at = 0; at < bytes.size(); at += kStep) {
    const auto part = bytes.subspan(at, std::min(kSample, bytes.size() - at));
    samples.insert(samples.end(), part.begin(), part.end());
  }
  const auto changed = fs::last_write_time(path).time_since_epoch().count();
  const std::string facts = fmt::format("{} {}", bytes.size(), changed);
  const auto facts_bytes = std::as_bytes(std::span(facts.data(), facts.size()));
  samples.insert(samples.end(), facts_bytes.begin(), facts_bytes.end());
  return std::string(kSampled) + io::sha256_hex(samples);
}

std::string sha256_of(const fs::path& path) {
  return std::string(kSha256) + io::sha256_hex_of_file(path);
}

[[noreturn]] void refuse(const std::string& difference) {
  throw Error(ErrorKind::kConfig, "E305",
              fmt::format("cannot resume: {}. Put it back to go on, or start anew with --resume "
                          "never",
                          difference));
}

// "sha256 ab12cd..": the first digits tell enough.
std::string shortened(const std::string& value, std::string_view kind) {
  return value.substr(kind.size(), 12) + "..";
}

[[noreturn]] void refuse(const std::string& name, const std::string& now,
                         const std::string& before) {
  for (const std::string_view kind : {kSha256, kSampled})
    if (now.starts_with(kind) && before.starts_with(kind))
      refuse(fmt::format("{} changed ({}{} -> {})", name, kind, shortened(before, kind),
                         shortened(now, kind)));
  refuse(fmt::format("{} is {}, was {}", name, now, before));
}

}  // namespace

Fields settings_fields(const Fields& settings) {
  Fields fields;
  for (const auto& [key, value] : settings)
    if (!cannot_change_the_result(key)) fields.emplace_back(key, value);
  if (!fields.empty()) fields.emplace_back("the version of calque", CALQUE_VERSION);
  return fields;
}

Fields model_fields(const job::Job& job) {
  Fields fields;
  const std::vector<fs::path> files = files_of_model(job.model.path);
  std::uint64_t bytes = 0;
  for (const fs::path& file : files) bytes += fs::file_size(file);
  for (const fs::path& file : files) {
    const bool sampled = bytes > kHashedWhole && is_weights(file);
    fields.emplace_back(
        (is_weights(file) ? "model shard " : "model file ") + file.filename().string(),
        sampled ? sampled_sha256(file) : sha256_of(file));
  }
  if (fs::exists(job.quantization.imatrix))
    fields.emplace_back("imatrix " + job.quantization.imatrix.filename().string(),
                        sha256_of(job.quantization.imatrix));
  return fields;
}

Fields device_fields(const job::StageDevices& devices, const std::string& forward_dtype) {
  return {{"the device of forward", devices.forward},
          {"the device of statistics", devices.statistics},
          {"the device of transform", devices.transform},
          {"the device of quantize", devices.quantize},
          {"the device of pack", devices.pack},
          {"the precision of the forward pass", forward_dtype}};
}

Fields calibration_fields(const text::Manifest& manifest) {
  Fields fields;
  for (const text::SourceReport& source : manifest.sources)
    fields.emplace_back("calibration text " + source.path, std::string(kSha256) + source.sha256);
  fields.emplace_back("the calibration tokens", std::string(kSha256) + manifest.tokens_sha256);
  return fields;
}

void require_same(const Fields& now, const Fields& before) {
  const auto find = [](const Fields& fields, const std::string& name) {
    return std::find_if(fields.begin(), fields.end(),
                        [&](const auto& field) { return field.first == name; });
  };
  for (const auto& [name, value] : before) {
    const auto there = find(now, name);
    if (there == now.end()) refuse(fmt::format("{} is gone, was {}", name, value));
    if (there->second != value) refuse(name, there->second, value);
  }
  for (const auto& [name, value] : now)
    if (find(before, name) == before.end()) refuse(fmt::format("{} is new ({})", name, value));
}

}  // namespace calque::resume
