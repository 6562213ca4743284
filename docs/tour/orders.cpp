// A service with a leak, for docs/tour.md. It answers requests, keeps the pages it made last, and keeps a session for
// each client until that says goodbye. One client in four does.
//   g++ -O2 -g -o orders orders.cpp && ./orders
#include <chrono>
#include <deque>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

struct Session {
    std::string user;
    std::vector<char> history;
};

class Sessions {
    std::unordered_map<int, Session> open;

  public:
    __attribute__((noinline)) void login(int client) {
        Session &session = open[client];
        session.user = "client number " + std::to_string(client) + " of this shop";
        session.history.resize(2048);
    }
    __attribute__((noinline)) void logout(int client) { open.erase(client); }
};

class Pages {
    std::deque<std::string> latest;

  public:
    __attribute__((noinline)) void render(int request) {
        latest.push_back(std::string(4096, 'a' + request % 26));
        if (latest.size() > 200) latest.pop_front();
    }
};

int main() {
    Sessions sessions;
    Pages pages;
    for (int request = 0;; request++) {
        sessions.login(request);
        pages.render(request);
        if (request % 4 == 0) sessions.logout(request);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}
