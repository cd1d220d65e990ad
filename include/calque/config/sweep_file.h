#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace calque::config {

// One key of the job file and what it is set to, as --set takes it: "quantization.bits=4".
struct Setting {
  std::string path;
  std::string value;

  std::string assignment() const { return path + "=" + value; }
  bool operator==(const Setting&) const = default;
};
using Settings = std::vector<Setting>;

// A key and the values that it takes in turn.
struct SweepAxis {
  std::string path;
  std::vector<std::string> values;
};

// Points to leave out: those for which every key here has one of its values.
using Exclusion = std::vector<SweepAxis>;

// What points may take over from each other where that changes no result.
struct Sharing {
  bool tokens = true;      // tokenized texts
  bool reference = true;   // the original's final hidden states, for evaluation
  bool statistics = true;  // of the linears' inputs; only with propagate_error: false
  bool asked = false;      // `share` was written: what cannot be shared is then an error
};

enum class KeepArtifacts { kNone, kPareto, kAll };

// A sweep file (configs/README.md): one job file and the values to run it with.
struct SweepFile {
  std::string name;
  std::filesystem::path base;  // the job file
  Settings set;                // of every point
  std::vector<SweepAxis> grid;
  std::vector<Settings> paired;  // alternatives; all set the same keys
  std::vector<Exclusion> exclude;
  std::vector<SweepAxis> replicates;
  Sharing share;
  KeepArtifacts keep_artifacts = KeepArtifacts::kNone;
  bool stop_on_failure = false;
  bool skip_invalid = false;  // points that cannot work are listed as failed; false: refused
  std::filesystem::path output;

  // Paths of grid and paired, in the order of the file.
  std::vector<std::string> swept() const;
};

// Reads a sweep file as strictly as a job file: everything that is wrong with it at once, each
// "file:line:column: error[E101]: ..." with a caret and the nearest valid name. Values are checked
// against the keys of the job file that they are for; the job file itself is not read. Error
// (kConfig), E101 to E111 as for job files, and
//   E181 a key is given twice over the sections, or by two names
//   E182 an exclusion names what is not swept
//   E183 a key that every point sets for itself (run_dir, name, an export's path)
SweepFile load_sweep(const std::filesystem::path& file);

// With every default filled in, as YAML that load_sweep accepts (paths absolute).
std::string resolved_yaml(const SweepFile& sweep);

// Every key, and the short names of the job file's, as Markdown; part of key_reference().
std::string sweep_key_reference();

// "quantization.bits" for "bits"; other names as they are.
std::string full_path_of(const std::string& name);
// "bits" for "quantization.bits"; the last part of other paths.
std::string short_name_of(const std::string& path);

}  // namespace calque::config
