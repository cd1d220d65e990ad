#include "calque/artifact/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "artifact/checksums.h"
#include "artifact/verify_parts.h"
#include "calque/artifact/reader.h"
#include "calque/core/error.h"

namespace calque::artifact {
namespace {

namespace fs = std::filesystem;

void verify_folder(const fs::path& folder, Findings& findings) {
  check_checksums(folder, findings);
  const LooseTensors tensors = load_loosely(folder, findings);
  const std::unique_ptr<MeantModules> meant = meant_modules(folder, findings);
  const std::vector<StoredModule> modules =
      stored_modules(tensors, meant != nullptr && meant->awq, findings);
  check_config(tensors, modules, meant.get(), findings);
  check_values(tensors, modules, meant.get(), findings);
}

// A message if the tensor cannot be read or holds what is no number.
std::string fault_of(const ArtifactReader& reader, const StoredTensor& tensor) {
  try {
    const Matrix<float> values = reader.load(tensor.name);
    const float* end = values.data() + values.size();
    const float* bad = std::find_if(values.data(), end, [](float v) { return !std::isfinite(v); });
    if (bad == end) return "";
    return fmt::format(
        "tensor '{}' ({}) holds {} at element {}: the file is damaged. Fetch it "
        "again.",
        tensor.name, tensor.stored_as, *bad, bad - values.data());
  } catch (const Error& error) {
    return error.what();
  }
}

void verify_gguf(const fs::path& file, Findings& findings) {
  std::unique_ptr<ArtifactReader> reader;
  try {
    reader = open_artifact(file);
  } catch (const Error& error) {
    return findings.fault("layout", error.what());
  }
  const std::vector<StoredTensor> tensors = reader->tensors();
  findings.ok("layout", fmt::format("{} tensors, each where the header says", tensors.size()));
  const std::size_t before = findings.faults();
  for (const StoredTensor& tensor : tensors)
    if (const std::string fault = fault_of(*reader, tensor); !fault.empty())
      findings.fault("values", fault);
  if (findings.faults() == before)
    findings.ok("values", fmt::format("{} tensors hold finite numbers", tensors.size()));
}

}  // namespace

std::size_t Findings::faults() const {
  return static_cast<std::size_t>(std::count_if(list_.begin(), list_.end(), [](const Finding& f) {
    return f.verdict == Finding::Verdict::kFault;
  }));
}

std::vector<Finding> verify_files(const fs::path& artifact) {
  if (!fs::exists(artifact))
    throw Error(ErrorKind::kInput, "", fmt::format("'{}' does not exist", artifact.string()));
  Findings findings;
  if (fs::is_directory(artifact))
    verify_folder(artifact, findings);
  else
    verify_gguf(artifact, findings);
  return findings.take();
}

}  // namespace calque::artifact
