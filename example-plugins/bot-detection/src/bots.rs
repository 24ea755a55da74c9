//! The built-in list: what bots call themselves. Families of names first, then those that have none.

use std::sync::LazyLock;

use regex::bytes::RegexSet;

const BOTS: &[&str] = &[
    // …bot, but not the phones of Cubot.
    r"(?i)(?:^|[^u]|[^c]u)bots?(?:$|[^a-z])",
    r"(?i)(?:spider|crawler|crawling|scraper|slurp)(?:$|[^a-z])",
    r"(?i)\b(?:robot|bot|crawl)[a-z]*/\d",
    // Previews and checks of the large sites.
    r"facebookexternalhit|facebookcatalog|meta-externalagent|BingPreview|Mediapartners-Google",
    r"google\.com/\+/web/snippet|Google-(?:Read-Aloud|InspectionTool|Site-Verification)|FeedFetcher-Google",
    r"Pingdom|ia_archiver|archive\.org|Embedly|Qwantify|ChatGPT-User|anthropic-ai|PetalSearch",
    // Libraries and programs that fetch without a person.
    r"(?i)\b(?:scrapy|nutch|heritrix|httrack|webzip|webcopier|wwwoffle|larbin|grub-client|teleport pro)\b",
    r"Python-urllib|Apache-HttpClient|Google-HTTP-Java-Client|WinHTTP|HttpMonitor|TLSProber|libwww-perl|^Java/\d",
];

/// Whether a User-Agent is that of a bot.
pub(crate) fn is_bot(agent: &[u8]) -> bool {
    // The test below compiles the same texts.
    static SET: LazyLock<Option<RegexSet>> = LazyLock::new(|| RegexSet::new(BOTS).ok());
    SET.as_ref().is_none_or(|bots| bots.is_match(agent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles_and_finds_somebody() {
        let set = RegexSet::new(BOTS).unwrap();
        let found: Vec<_> = ROBOTS
            .iter()
            .flat_map(|agent| set.matches(agent.as_bytes()).iter().collect::<Vec<_>>())
            .collect();
        for (index, pattern) in BOTS.iter().enumerate() {
            assert!(found.contains(&index), "{pattern}");
        }
    }

    const ROBOTS: &[&str] = &[
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
        "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
        "DuckDuckBot/1.1; (+http://duckduckgo.com/duckduckbot.html)",
        "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)",
        "Sogou web spider/4.0(+http://www.sogou.com/docs/help/webmasters.htm#07)",
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        "Twitterbot/1.0",
        "LinkedInBot/1.0 (compatible; Mozilla/5.0; +http://www.linkedin.com)",
        "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)",
        "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        "CCBot/2.0 (https://commoncrawl.org/faq/)",
        "robots/1.0",
        "ia_archiver (+http://www.alexa.com/site/help/webmasters)",
        "Scrapy/2.11 (+https://scrapy.org)",
        "Python-urllib/3.11",
        "Apache-HttpClient/4.5.13 (Java/11.0.20)",
        "Mozilla/5.0 (X11) (via ggpht.com) Google (+https://developers.google.com/+/web/snippet/)",
    ];

    #[test]
    fn bots_are_found() {
        for agent in ROBOTS {
            assert!(is_bot(agent.as_bytes()), "{agent}");
        }
    }

    #[test]
    fn people_and_their_tools_are_not_bots() {
        for agent in [
            "",
            "curl/8.5.0",
            "Wget/1.21.4",
            "PostmanRuntime/7.39.0",
            "my-service/1.0 (botany department)",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
            "Mozilla/5.0 (Linux; Android 9; CUBOT X19) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/99.0.4844.73 Mobile Safari/537.36",
            "okhttp/4.12.0",
            "Go-http-client/1.1",
        ] {
            assert!(!is_bot(agent.as_bytes()), "{agent}");
        }
    }
}
