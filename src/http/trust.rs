//! What it means, and who acts, where a client and a server do not trust each other.

use crate::error::{Advice, BoxError};

/// What a client trusts, by the name of the property that says so.
pub(super) fn distrust(said: &str, ca_property: &str) -> Option<BoxError> {
    let (what, hint) = match said {
        _ if said.contains("invalid peer certificate") => of_the_server(said, ca_property),
        _ if said.contains("received fatal alert") => of_the_client(said),
        _ => return None,
    };
    Some(Advice { what: format!("{what} ({said})"), hint }.into())
}

/// The client's verdict, in rustls's words.
fn of_the_server(said: &str, ca_property: &str) -> (&'static str, String) {
    let renew = "its owner has to renew it; is this machine's clock right?";
    let has = |word| said.contains(word);
    if has("UnknownIssuer") {
        let hint = format!("`{ca_property}` names a PEM file of authorities to trust besides the system's");
        ("the server's certificate is signed by an authority that is not trusted here", hint)
    } else if has("not valid for name") || has("NotValidForName") {
        let hint = "the address has to use a name that the certificate holds, or the server needs another certificate";
        ("the server's certificate is for another host", hint.into())
    } else if has("certificate expired") || has("Expired") {
        ("the server's certificate has expired", renew.into())
    } else if has("not valid yet") || has("NotValidYet") {
        ("the server's certificate is not valid yet", renew.into())
    } else if has("Revoked") {
        ("the server's certificate is revoked", renew.into())
    } else {
        ("the server's certificate cannot be verified", format!("is it whole, and does `{ca_property}` name who signed it?"))
    }
}

/// The server's verdict: the name of a TLS alert.
fn of_the_client(said: &str) -> (&'static str, String) {
    let own = "`ssl.client.cert` and `ssl.client.key` name the client's certificate and key; the server asks for them";
    let has = |word| said.contains(word);
    let what = if has("CertificateRequired") {
        "the server refused the client's certificate: it is missing"
    } else if has("UnknownCA") {
        "the server refused the client's certificate: it is signed by an authority that the server does not trust"
    } else if has("CertificateExpired") {
        "the server refused the client's certificate: it has expired"
    } else if has("CertificateRevoked") {
        "the server refused the client's certificate: it was revoked"
    } else if has("UnrecognisedName") {
        return ("the server does not know itself by the name in the address", "is the address right?".into());
    } else if has("ProtocolVersion") {
        return ("the server speaks no version of TLS that is safe", "it has to speak TLS 1.2 or 1.3".into());
    } else if has("Certificate") || has("HandshakeFailure") || has("AccessDenied") {
        // Before TLS 1.3 there is no alert of its own for a certificate that is missing.
        "the server refused the client's certificate: it is missing, or one that the server does not trust"
    } else {
        return ("the server ended the TLS handshake", "its log says why".into());
    };
    (what, own.into())
}

#[cfg(test)]
mod tests {
    use super::distrust;

    fn told(said: &str) -> String {
        let cause = distrust(said, "https.ca.location").unwrap();
        let advice = cause.downcast_ref::<crate::error::Advice>().unwrap();
        format!("{}; {}", advice.what, advice.hint)
    }

    #[test]
    fn verdicts_are_put_into_words_with_what_to_do() {
        for (said, words) in [
            ("invalid peer certificate: UnknownIssuer", "`https.ca.location` names a PEM file"),
            ("invalid peer certificate: certificate expired: verification time 2 (UNIX)", "has expired"),
            ("invalid peer certificate: certificate not valid for name \"a\"; certificate is only valid for b", "for another host"),
            ("invalid peer certificate: certificate not valid yet: verification time 2", "not valid yet (invalid"),
            ("invalid peer certificate: Revoked", "is revoked"),
            ("invalid peer certificate: BadSignature", "cannot be verified"),
            ("received fatal alert: CertificateRequired", "it is missing ("),
            ("received fatal alert: UnknownCA", "an authority that the server does not trust"),
            ("received fatal alert: CertificateExpired", "it has expired"),
            ("received fatal alert: HandshakeFailure", "it is missing, or one"),
            ("received fatal alert: ProtocolVersion", "TLS 1.2 or 1.3"),
            ("received fatal alert: InternalError", "its log says why"),
        ] {
            assert!(told(said).contains(words) && told(said).contains(said), "{}", told(said));
        }
        assert!(distrust("connection refused", "ssl.cabundle").is_none());
    }
}
