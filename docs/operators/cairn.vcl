# Varnish 7 in front of Cairn: public pages are kept, everything else is passed on. See cdn.md.
#
#   varnishd -f /etc/varnish/cairn.vcl -a public=:80 -a purge=127.0.0.1:6082 -s malloc,1G
#
# Only what comes in at the socket named `purge` may drop pages: let nobody but Cairn's workers reach it.

vcl 4.1;

import std;

backend default {
    .host = "127.0.0.1";
    .port = "8000";
    .connect_timeout = 1s;
    .probe = {  # an API that hangs is found out once, not by every visitor
        .url = "/livez";
        .interval = 1s;
        .timeout = 2s;
        .window = 2;
        .threshold = 1;
        .initial = 1;
    }
}

sub vcl_recv {
    if (local.socket == "purge") {
        call cairn_purge;
    }
    # For operators: whoever scrapes asks the API itself. However it is written: %6D is an m, and no place begins so.
    if (req.url ~ "^/metrics([/?]|$)" || req.url ~ "^/[^/?]*%") {
        return (synth(404, "Not Found"));
    }
    set req.http.Surrogate-Capability = "cairn=Surrogate/1.0";
    unset req.http.X-Cairn-Public;
    if ((req.method != "GET" && req.method != "HEAD") || req.url !~ "^(/v1/public/|/activities/)") {
        return (pass);
    }
    # Public: the same for everybody, so nobody's credentials go there, and no parameter but those of a picture counts.
    set req.http.X-Cairn-Public = "yes";
    unset req.http.Authorization;
    unset req.http.Cookie;
    if (req.url ~ "^[^?&]+/map\.svg\?") {
        set req.url = regsub(req.url, "\?", "?&");
        set req.url = regsuball(req.url, "&(?!(theme|width|height|units)(=|&|$))[\w.~-]*(=[^&]*)?(?=&|$)", "");
        set req.url = regsub(regsub(req.url, "\?&", "?"), "\?$", "");
        # Of a name that comes twice, the last value counts, and %77 is a w: such ones are kept as they are.
        if (req.url !~ "%" && req.url !~ "[?&](theme|width|height|units)\b.*&\1\b") {
            set req.url = std.querysort(req.url);
        }
    } else {
        set req.url = regsub(req.url, "\?.*", "");
    }
    # Three looks at what is kept. The first takes what there is, and has it fetched anew in the background. What is older
    # than `stale-while-revalidate` allows is not shown: the second look waits for the new one. When there is none, because
    # the origin is away or answers with a fault, the third takes what there is after all. Nobody who comes for a kept page
    # fetches it himself, so nobody waits for more than one answer.
    set req.grace = 1h;
    if (req.restarts == 1) {
        set req.grace = 30s;
    } elsif (req.restarts > 1) {
        set req.http.X-Cairn-Public = "kept";
    }
    return (hash);
}

sub cairn_purge {
    if (req.method != "POST" || req.http.Surrogate-Key !~ "^[a-z0-9-]+( [a-z0-9-]+)*$") {
        return (synth(400, "Bad Request"));
    }
    # Only obj.*: the ban lurker can then free what is banned by itself.
    if (std.ban("obj.http.Surrogate-Key ~ (^|\s)(" + regsuball(req.http.Surrogate-Key, " ", "|") + ")(\s|$)")) {
        return (synth(200, "Purged"));
    }
    return (synth(500, "Not Purged"));
}

sub vcl_hash {
    hash_data(req.url);  # not the Host, which anybody may make up: no answer depends on it
    return (lookup);
}

sub vcl_hit {
    if (req.restarts == 0 && obj.ttl + 30s < 0s) {
        set req.http.X-Cairn-Public = "old";
    }
}

sub vcl_miss {
    if (req.restarts == 1) {
        return (restart);
    }
}

sub vcl_backend_fetch {
    if (bereq.is_bgfetch && bereq.http.X-Cairn-Public == "kept") {
        return (abandon);  # it was asked just now
    }
    if (bereq.http.X-Cairn-Public) {
        set bereq.first_byte_timeout = 5s;
    }
}

sub vcl_backend_response {
    if (bereq.uncacheable) {
        return (deliver);
    }
    if (beresp.status >= 500) {
        return (error(503, "Service Unavailable"));
    }
    # Kept is only what says that it is public, and by which keys it can be dropped.
    if (!beresp.http.Surrogate-Key || beresp.http.Set-Cookie ||
        beresp.http.Cache-Control !~ "(^|[ ,])public([ ,]|$)" || beresp.http.Cache-Control !~ "s-maxage=") {
        set beresp.uncacheable = true;
        set beresp.ttl = 1s;  # in which requests for it need not wait for each other
        set beresp.grace = 0s;
        return (deliver);
    }
    if (beresp.status == 200) {
        set beresp.grace = 1h;  # for the time in which the origin is away: purges drop these pages all the same
    } else {
        set beresp.grace = 0s;
    }
    return (deliver);
}

sub vcl_backend_error {
    if (bereq.is_bgfetch) {
        return (abandon);  # what is there stays
    }
    set beresp.http.Content-Type = "application/problem+json";
    set beresp.http.Cache-Control = "no-store";
    set beresp.http.Retry-After = "2";
    set beresp.body = {"{"type":"urn:cairn:problem:unavailable","title":"Service Unavailable","status":503,"}
        + {""code":"unavailable","detail":"The server does not answer now. The same request is safe to repeat." }"};
    set beresp.grace = 0s;
    return (deliver);
}

sub vcl_deliver {
    if (req.http.X-Cairn-Public == "old") {
        return (restart);
    }
    if (req.http.X-Cairn-Public && resp.http.Surrogate-Key) {
        # Nobody behind this cache is told of changes: they keep pages only to ask whether these are still good.
        if (resp.http.Cache-Control ~ "s-maxage=") {
            set resp.http.Cache-Control = "public, max-age=0, must-revalidate";
        }
        unset resp.http.Surrogate-Key;
    }
    if (obj.hits > 0) {
        set resp.http.X-Cache = "hit";
    } else {
        set resp.http.X-Cache = "miss";
    }
    unset resp.http.X-Varnish;
    unset resp.http.Via;
}
