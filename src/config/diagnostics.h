#pragma once

#include <string>
#include <vector>

namespace calque::config {

// A place in the job file (`source` 0) or in one of the --set texts (1, 2, ...). Zero-based.
struct Mark {
  int source = 0;
  int line = 0;
  int column = 0;
};

// A fault whose place is not known yet: a stable code and a message. Empty: no fault.
struct Problem {
  std::string code;
  std::string message;

  bool empty() const { return message.empty(); }
};

// Collects all faults of a job file, to be reported at once.
class Diagnostics {
 public:
  // `file` is the path as the user wrote it.
  Diagnostics(std::string file, std::string text, std::vector<std::string> overrides);

  void add(const Mark& mark, Problem problem);
  // Throws Error(kConfig) with all faults in file order.
  void throw_if_any() const;

 private:
  struct Entry {
    Mark mark;
    Problem problem;
  };
  std::string describe(const Entry& entry) const;

  std::string file_;
  std::vector<std::string> lines_;
  std::vector<std::string> overrides_;
  std::vector<Entry> entries_;
};

}  // namespace calque::config
