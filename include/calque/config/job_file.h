#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "calque/job/job.h"

namespace calque::config {

// Reads a job file (configs/README.md). Strict: unknown or duplicate keys, wrong types and values
// out of range are reported together in one Error(kConfig). Each is "file:line:column: error[E101]:
// ..." with the source line, a caret and the nearest valid name. `overrides` are "key.path=value"
// from --set, applied after the file and checked the same way.
job::Job load_job(const std::filesystem::path& file,
                  const std::vector<std::string>& overrides = {});

// As load_job, for text that is not in a file yet. `file`: its path when it is written.
job::Job read_job(const std::string& text, const std::filesystem::path& file,
                  const std::vector<std::string>& overrides = {});

// The job with every default filled in, as YAML that load_job accepts (paths absolute).
std::string resolved_yaml(const job::Job& job);

// The same settings as pairs of key and YAML value, such as "quantization.bits" and "4". Items of
// lists are numbered: "export.0.path".
std::vector<std::pair<std::string, std::string>> settings_of(const job::Job& job);

// A key of the job file, for manuals and completion.
struct KeyFacts {
  std::string path;  // "export.*.type": * is an index of a list
  std::string type;  // "integer, 1 or more"
  std::string doc;
  std::string default_value;        // as YAML, or in words with `YAML`; "": the key is required
  std::vector<std::string> values;  // the usual ones, if they are words; else empty
};
struct SectionFacts {
  std::string path;  // "export.*"; "": the top level
  std::string doc;
  std::vector<KeyFacts> keys;
};
// In the order of the resolved YAML.
std::vector<SectionFacts> sections_of_job_file();

// Every key with its type, default and meaning, as Markdown: the tables of configs/README.md and
// the output of `calque schema`.
std::string key_reference();

}  // namespace calque::config
