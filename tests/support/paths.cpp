#include "support/paths.h"

namespace calque::test {
namespace {

std::string in_repository(const char* path) { return std::string(CALQUE_REPOSITORY) + path; }

}  // namespace

std::string fixtures() { return in_repository("/tests/fixtures"); }
std::string demo_model() { return in_repository("/tests/models/demo"); }
std::string calibration_data() { return in_repository("/calibration_data"); }
std::string configs() { return in_repository("/configs"); }

}  // namespace calque::test
