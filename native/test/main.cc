// SPDX-License-Identifier: Apache-2.0
// Runs the tests, each with a time limit: one that hangs is named and ends the run, so that a log
// that nobody can ask again tells which it was.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

namespace {

constexpr unsigned kTestSecondsMax = 120;

/// Written before the alarm is set, so that the handler reads what stands still.
std::array<char, 256> hung_text;
size_t hung_bytes = 0;

void EndHungTest(int) {
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, hung_text.data(), hung_bytes);
  std::abort();
}

class TimeLimit : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo& test) override {
    const int bytes =
        std::snprintf(hung_text.data(), hung_text.size(), "%s.%s did not end within %u s\n",
                      test.test_suite_name(), test.name(), kTestSecondsMax);
    hung_bytes = std::min(static_cast<size_t>(bytes), hung_text.size() - 1);
    ::alarm(kTestSecondsMax);
  }
  void OnTestEnd(const testing::TestInfo&) override { ::alarm(0); }
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  struct sigaction action {};
  action.sa_handler = EndHungTest;
  ::sigaction(SIGALRM, &action, nullptr);
  testing::UnitTest::GetInstance()->listeners().Append(new TimeLimit);
  return RUN_ALL_TESTS();
}
