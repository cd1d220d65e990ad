#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "calque/formats/stored_folder.h"
#include "calque/io/safetensors.h"
#include "calque/verify/verify.h"

namespace calque::verify {

class Findings {
 public:
  void ok(std::string check, std::string message) {
    list_.push_back({Finding::Verdict::kOk, std::move(check), std::move(message)});
  }
  void warning(std::string check, std::string message) {
    list_.push_back({Finding::Verdict::kWarning, std::move(check), std::move(message)});
  }
  void fault(std::string check, std::string message) {
    list_.push_back({Finding::Verdict::kFault, std::move(check), std::move(message)});
  }
  std::size_t faults() const;
  std::vector<Finding> take() { return std::move(list_); }

 private:
  std::vector<Finding> list_;
};

// The tensors of a folder and the files that hold them. Unlike in a checkpoint, a damaged or
// missing shard does not hide the others.
struct LooseTensors : formats::StoredTensors {
  std::vector<std::unique_ptr<io::SafetensorsFile>> files;
};

// Check "index". Error(kInput) if the folder has neither model.safetensors nor an index.
LooseTensors load_loosely(const std::filesystem::path& folder, Findings& findings);

// Check "checksums": every line of the folder's SHA256SUMS against the file it names, and files
// that are not listed.
void check_checksums(const std::filesystem::path& folder, Findings& findings);

// Checks "layout", "config" and "values" of a folder's modules.
void check_modules(const std::filesystem::path& folder, const LooseTensors& tensors,
                   Findings& findings);

}  // namespace calque::verify
