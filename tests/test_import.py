"""`flowrun import`: packages of every shape, what is written and reported, secrets, and Microsoft's own package."""

from __future__ import annotations

import copy
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from definitions import PACKAGES, after, definition, everything, operation
from terminal import Said, flowrun
from test_import_actions import compose, convert

from engine.loader import load

SEED = PACKAGES / "PartnerReferralsToDynamicsCRMLead.zip"
FLOW = "synchronize_partner_referral_to_crm_lead"
REFERRAL = "8f3c1a52-6b7d-4e9f-a1b2-c3d4e5f60718"
DEFECTS = {
    "BlankInUrl", "CallerChoosesAudience", "CommonTenant", "FormByHand", "LastContact", "LeadIdNotStored",
    "MissingRowFails", "NullTest", "PasswordGrant", "QuotedText", "RebuiltReferral", "StaleTag", "SyncLoop",
    "UnverifiedEvent", "UpdatesNothing",
}  # fmt: skip
KEPT = {"LastContact", "UpdatesNothing"}


def lines(said: Said, kind: str = "") -> list[dict[str, Any]]:
    return [line for line in said.lines if not kind or line["type"] == kind]


def package(folder: Path, given: Any, name: str = "flow.json") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(given if isinstance(given, str) else json.dumps(given), encoding="utf-8")
    return file


def zipped(folder: Path, files: dict[str, Any], name: str = "package.zip") -> Path:
    with zipfile.ZipFile(folder / name, "w") as archive:
        for entry, text in files.items():
            archive.writestr(entry, text if isinstance(text, (str, bytes)) else json.dumps(text))
    return folder / name


def imported(folder: Path, *args: Any) -> Said:
    return flowrun("import", *args, cwd=folder)


def flow_in(folder: Path, name: str) -> Any:
    document = load((folder / name).read_text(encoding="utf-8"), name)
    assert not document.findings
    return document.data


# Microsoft's package


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    said = imported(tmp_path, SEED, "-o", "flows")
    assert said.code == 0, said.all
    return tmp_path


def test_the_package_checks_clean_and_runs_to_a_lead_and_back(seed: Path) -> None:
    said = flowrun("check", f"flows/{FLOW}.yaml", cwd=seed)
    assert (said.code, said.out.count("\n")) == (0, 1), said.all
    for run in ("created", "updated"):
        said = flowrun(f"flows/{FLOW}.yaml", "--json", cwd=seed)
        assert said.code == 0, said.all
        created = [s for s in said.steps.values() if str(s.get("summary", "")).startswith("created leads")]
        assert len(created) == (run == "created")
    (lead,) = leads(seed)
    assert (lead["subject"], lead["companyname"]) == (REFERRAL, "Fabrikam Bakeries Inc.")
    assert (lead["firstname"], lead["lastname"]) == ("Robin", "Baker")
    assert referral(seed)["externalReferenceId"] == lead["leadid"]


def test_a_lead_that_is_gone_is_made_anew_and_its_id_goes_back(seed: Path) -> None:
    gone = "99999999-0000-4000-8000-000000000009"
    asked(seed, "partner_center.update_referral", {"referral": REFERRAL, "set": {"externalReferenceId": gone}})
    said = flowrun(f"flows/{FLOW}.yaml", "--json", cwd=seed)
    assert said.code == 0, said.all
    (lead,) = leads(seed)
    assert lead["budgetamount"] == 25000  # what the other branch never wrote
    assert referral(seed)["externalReferenceId"] == lead["leadid"] != gone


def test_a_closed_referral_takes_nothing_back(seed: Path) -> None:
    asked(
        seed, "partner_center.update_referral", {"referral": REFERRAL, "set": {"status": "Closed", "substatus": "Lost"}}
    )
    said = flowrun(f"flows/{FLOW}.yaml", "--json", cwd=seed)
    assert said.code == 0, said.all
    assert "update_lead_id_back_to_partner_center" not in said.steps
    assert referral(seed)["externalReferenceId"] is None


def asked(folder: Path, call: str, given: dict[str, Any]) -> Any:
    """What one call gives, made by a flow of its own."""
    alias = call.partition(".")[0]
    asking = {
        "flow": "asking",
        "connections": {alias: alias},
        "steps": {"it": {"call": call, "with": given}},
        "outputs": {"it": "{{ steps.it.body }}"},
    }
    package(folder, asking, "flows/asking.yaml")
    said = flowrun("flows/asking.yaml", "--json", cwd=folder)
    assert said.code == 0, said.all
    return said.end["outputs"]["it"]


def leads(folder: Path) -> list[dict[str, Any]]:
    found = asked(folder, "dynamics365.list", {"table": "leads", "filter": f"subject eq '{REFERRAL}'"})
    return list(found["value"])


def referral(folder: Path) -> dict[str, Any]:
    return dict(asked(folder, "partner_center.get_referral", {"id": REFERRAL}))


def test_the_package_is_shown_with_its_connections(tmp_path: Path) -> None:
    said = imported(tmp_path, SEED)
    assert said.code == 0, said.all
    assert "Power Automate package “Partner Referral to Microsoft Dynamics CRM Lead”" in said.out
    assert "Microsoft Corporation" in said.out
    assert "NotJson: " in said.out
    assert f"“Synchronize Partner Referral to CRM Lead” → {FLOW}.yaml (new)" in said.out
    assert "shared_dynamicscrmonline_1 → dynamics365" in said.out
    assert "url: https://orge905237c.crm.dynamics.com" in said.out


def test_its_defects_are_named_and_mended(seed: Path) -> None:
    said = imported(seed, SEED, "-o", "again", "--json")
    found = {line["name"]: line for line in lines(said, "defect")}
    assert found.keys() == DEFECTS
    assert {name for name, line in found.items() if not line["mended"]} == KEPT
    notes = yaml.safe_dump(flow_in(seed, f"flows/{FLOW}.yaml"))
    left_out = {"UnverifiedEvent"}  # stands with a step that isn't there any more
    assert all(name in notes for name in DEFECTS - left_out)


def test_faithful_keeps_them(tmp_path: Path) -> None:
    said = imported(tmp_path, SEED, "--faithful", "--json")
    assert {line["name"] for line in lines(said, "defect")} == DEFECTS
    assert not any(line["mended"] for line in lines(said, "defect"))
    flow = flow_in(tmp_path, f"{FLOW}.yaml")
    steps = flow["steps"]
    assert steps["referral_resource_uri"]["set"] == {"referralresourceuri": " {{ trigger.inputs.body.ResourceUri }}"}
    assert steps["create_or_update_lead_in_dynamics_crm"]["if"] == "variables.lead_id != null"
    assert steps["update_referral_with_the_lead_id"]["if"].endswith("""!= "'Closed'\"""")
    assert steps["get_user_token"]["secure"] == ["outputs"]
    assert flow["parameters"]["user_password"] == {
        "type": "string",
        "default": "${env:USER_PASSWORD}",
        "secret": True,
        "note": "UserPassword",
    }
    variables = {p["default"] for p in flow["parameters"].values()}
    assert len(variables) == 4  # nothing reads the tenant's
    said = flowrun("check", f"{FLOW}.yaml", cwd=tmp_path)
    assert (said.code, said.out.count("\n")) == (0, 1), said.all


def test_each_action_is_told_with_its_line(seed: Path) -> None:
    said = imported(seed, SEED, "-o", "again", "--json")
    text = (seed / f"again/{FLOW}.yaml").read_text(encoding="utf-8").splitlines()
    actions = lines(said, "action")
    assert len(actions) == 30
    assert {a["status"] for a in actions} == {"converted", "changed"}
    for action in actions:
        if action["line"]:
            assert text[action["line"] - 1].strip().startswith(f"{action['step']}:")
        else:
            assert action["form"] == "left out"
        assert all(action["said"]) and (action["said"] or action["status"] == "converted")
    (record,) = [a for a in actions if a["name"] == "Get_record"]
    assert record["form"] == "dynamics365.get"
    assert record["source"].endswith("definition.json:543")


# Where it is written


def test_names_files_and_updates(tmp_path: Path) -> None:
    file = package(tmp_path, definition({"A": compose("@{utcNow()}")}), "My First Flow.json")
    (tmp_path / "flows").mkdir()
    assert imported(tmp_path, file).code == 0
    assert flow_in(tmp_path, "flows/my_first_flow.yaml")["flow"] == "my_first_flow"
    said = imported(tmp_path, file)
    assert said.code == 2
    assert "--update replaces it" in said.err
    assert imported(tmp_path, file, "--as", "other").code == 0
    assert flow_in(tmp_path, "flows/other.yaml")["flow"] == "other"
    assert imported(tmp_path, file, "-o", "deep/er").code == 0
    assert (tmp_path / "deep/er/my_first_flow.yaml").exists()


def test_an_update_keeps_name_and_connections(tmp_path: Path) -> None:
    given = definition({"A": {"type": "OpenApiConnection", "inputs": operation("SendEmailV2", to="a")}})
    file = package(tmp_path, given)
    package(tmp_path, "flow: mine\nconnections: {office365: http}\nsteps: {a: {compose: 1}}\n", "mine.yaml")
    said = imported(tmp_path, file, "--update", "mine.yaml")
    assert said.code == 0, said.all
    assert "mine.yaml (updated)" in said.out
    flow = flow_in(tmp_path, "mine.yaml")
    assert (flow["flow"], flow["connections"]) == ("mine", {"office365": "http"})


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nowhere.zip"], "there is no such file"),
        (["flow.json", "--as", "Not A Name"], "no name of a flow"),
        (["flow.json", "--as", "a", "--update", "b.yaml"], "either --as or --update"),
        (["flow.json", "--update", "none.yaml"], "there is no flow none.yaml"),
        (["flow.json", "--connect", "shared_x=y"], "has no connection 'shared_x'"),
        (["empty.json"], "holds no flow"),
        (["list.json"], "holds no flow"),
        (["broken.json"], "is no JSON"),
        (["binary.json"], "UTF-8"),
    ],
)
def test_what_cannot_be_imported(tmp_path: Path, args: list[str], words: str) -> None:
    package(tmp_path, definition({"A": compose(1)}))
    package(tmp_path, {"a": 1}, "empty.json")
    package(tmp_path, [1], "list.json")
    package(tmp_path, '{"a": ', "broken.json")
    (tmp_path / "binary.json").write_bytes(b"\x81\x82")
    said = imported(tmp_path, *args)
    assert said.code == 2
    assert words in said.err, said.err
    assert not list(tmp_path.glob("*.yaml"))


def test_connect_says_what_a_connection_is(tmp_path: Path) -> None:
    file = package(
        tmp_path, definition({"A": {"type": "OpenApiConnection", "inputs": operation("SendEmailV2", to="a")}})
    )
    said = imported(tmp_path, file)
    assert said.code == 1
    assert "office365: to be bound" in said.out
    check = flowrun("check", "flow.yaml", cwd=tmp_path)
    assert check.code == 2
    assert "unknown connection 'office365'" in check.out
    for key in ("shared_office365", "office365"):
        assert imported(tmp_path, file, "--as", f"by_{key}", "--connect", f"{key}=http").code == 0
        assert flow_in(tmp_path, f"by_{key}.yaml")["connections"] == {"office365": "http"}


# Shapes


def test_a_solution(tmp_path: Path) -> None:
    def exported(actions: dict[str, Any]) -> dict[str, Any]:
        references = {
            "shared_commondataserviceforapps": {"api": {"name": "shared_commondataserviceforapps"}, "connection": {}}
        }
        return {
            "properties": {"connectionReferences": references, "definition": definition(actions)},
            "schemaVersion": "1.0.0.0",
        }

    child, parent = "11111111-0000-4000-8000-000000000001", "22222222-0000-4000-8000-000000000002"
    run = {"type": "Workflow", "inputs": {"host": {"workflowReferenceName": child}, "body": {"n": 1}}}
    file = zipped(
        tmp_path,
        {
            "solution.xml": '<ImportExportXml><LocalizedName description="Sales &amp; more"/></ImportExportXml>',
            "[Content_Types].xml": "<Types/>",
            f"Workflows/Childflow-{child.upper()}.json": exported({"A": compose(1)}),
            f"Workflows/Childflow-{child.upper()}.json.data.xml": '<Workflow Name="The child &amp; co"/>',
            f"Workflows/Parentflow-{parent.upper()}.json": "\ufeff" + json.dumps(exported({"Run": run})),
        },
    )
    said = imported(tmp_path, file)
    assert said.code == 0, said.all
    assert "Power Platform solution “Sales & more”" in said.out
    assert flow_in(tmp_path, "the_child_co.yaml")["title"] == "The child & co"
    assert flow_in(tmp_path, "parentflow.yaml")["steps"]["run"]["run"] == "the_child_co"
    assert flowrun("check", "the_child_co.yaml", "parentflow.yaml", cwd=tmp_path).code == 0
    said = imported(tmp_path, file, "--as", "one", "-o", "x")
    assert said.code == 2
    assert "has 2 flows" in said.err


def test_a_logic_apps_project(tmp_path: Path) -> None:
    connections = {
        "managedApiConnections": {
            "crm-1": {
                "api": {"id": "/subscriptions/x/providers/Microsoft.Web/locations/y/managedApis/commondataservice"}
            }
        },
        "serviceProviderConnections": {"bus": {"serviceProvider": {"id": "/serviceProviders/serviceBus"}}},
    }
    actions = {
        "Row": {
            "type": "ApiConnection",
            "inputs": {
                "host": {"connection": {"referenceName": "crm-1"}},
                "method": "get",
                "path": "/v2/datasets/x/tables/accounts/items",
            },
        },
        "Say": {**compose("@parameters('Url')"), **after("Row")},
    }
    given = definition(actions)
    del given["parameters"]
    package(tmp_path, {"definition": given, "kind": "Stateful"}, "app/My Flow/workflow.json")
    package(tmp_path, connections, "app/connections.json")
    package(tmp_path, {"Url": {"type": "String", "value": "https://x.example"}}, "app/parameters.json")
    package(tmp_path, {}, "app/host.json")
    for n, source in enumerate(("app/My Flow/workflow.json", "app")):
        assert imported(tmp_path, source, "-o", f"out{n}").code == 0
        flow = flow_in(tmp_path, f"out{n}/my_flow.yaml")
        assert flow["steps"]["row"]["call"] == "dynamics365.list"
        assert flow["parameters"] == {"url": {"type": "string", "default": "https://x.example", "note": "Url"}}


def test_an_arm_template(tmp_path: Path) -> None:
    given = definition(
        {
            "Call": {"type": "Http", "inputs": {"method": "GET", "uri": "[concat(parameters('base'), '/items')]"}},
            "List": {**compose(["[[not arm]", "[reference('x').y]", "[variables('v')]", "[1, 2]"]), **after("Call")},
        }
    )
    template = {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "parameters": {
            "base": {"type": "string", "defaultValue": "https://x.example"},
            "name": {"type": "string", "defaultValue": "My-App"},
        },
        "variables": {"v": "[toUpper('ok')]"},
        "resources": [
            {"type": "Microsoft.Web/connections", "name": "c", "properties": {}},
            {
                "type": "Microsoft.Logic/workflows",
                "name": "[parameters('name')]",
                "properties": {"definition": given, "parameters": {"$connections": {"value": {}}}},
            },
        ],
    }
    file = package(tmp_path, "// deployed by hand\n# twice\n/* so */" + json.dumps(template).replace("}]", "},]"))
    said = imported(tmp_path, file)
    assert said.code == 0, said.all
    flow = flow_in(tmp_path, "my_app.yaml")
    assert flow["steps"]["call"]["with"]["url"] == "https://x.example/items"
    assert flow["steps"]["list"]["compose"] == ["[not arm]", "[reference('x').y]", "OK", "[1, 2]"]
    assert "[reference('x').y]" in said.out
    assert "comments" in said.out
    assert "a comma before a closing bracket" in said.out


def test_a_flow_as_the_service_gives_it(tmp_path: Path) -> None:
    given = {
        "name": "x",
        "type": "Microsoft.Logic/workflows",
        "properties": {"displayName": "Named", "definition": definition({"A": compose(1)})},
    }
    assert imported(tmp_path, package(tmp_path, given)).code == 0
    assert flow_in(tmp_path, "named.yaml")["title"] == "Named"


@pytest.mark.parametrize("entry", ["../out.json", "/etc/x.json", "a/../../x.json", "C:\\x.json", "..\\x.json"])
def test_an_entry_that_leads_out_is_refused(tmp_path: Path, entry: str) -> None:
    said = imported(tmp_path, zipped(tmp_path, {"Workflows/x.json": "{}", entry: "{}"}))
    assert said.code == 2
    assert "leads out of the package" in said.err


def test_a_package_that_is_too_large_is_refused(tmp_path: Path) -> None:
    said = imported(tmp_path, zipped(tmp_path, {f"{n}.json": "{}" for n in range(201)}))
    assert (said.code, "201 entries" in said.err) == (2, True)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Workflows/a.json", b" " * (21 * 1024 * 1024))
    said = imported(tmp_path, tmp_path / "bomb.zip")
    assert (said.code, "larger than" in said.err) == (2, True)
    (tmp_path / "large.json").write_bytes(b" " * (21 * 1024 * 1024))
    assert "larger than" in imported(tmp_path, tmp_path / "large.json").err
    said = imported(tmp_path, zipped(tmp_path, {"readme.txt": "x"}, "none.zip"))
    assert (said.code, "holds no flow" in said.err) == (2, True)
    (tmp_path / "broken.zip").write_bytes((tmp_path / "none.zip").read_bytes()[:-30])
    assert imported(tmp_path, tmp_path / "broken.zip").code == 2


# Secrets


def test_a_secret_is_written_nowhere(tmp_path: Path) -> None:
    secrets = [
        "hunter2!",
        "eyJhbGciOi.JIUzI1NiIs",
        "dXNlcjpwYXNz",
        "A1b2C3d4%3D%3D",
        "abcdef0123456789abcdef",
        "p4ssw0rd-in-json",
        "S3cr3tK3y==",
        "param-default-1",
        "k1-k1-k1",
        "sas-token-1",
        "pass phrase",
    ]
    password, bearer, basic, sig, code, in_json, account, default, api, sas, phrase = secrets
    actions = {
        "V": {
            "type": "InitializeVariable",
            "inputs": {"variables": [{"name": "dbPassword", "type": "String", "value": phrase}]},
        },
        "A": {
            "type": "Http",
            "inputs": {
                "method": "GET",
                "uri": f"https://x.example/y?sv=1&sig={sig}&z=1",
                "headers": {"Authorization": f"Bearer {bearer}", "x-api-key": api},
            },
            **after("V"),
        },
        "B": {
            "type": "Http",
            "inputs": {
                "method": "POST",
                "uri": f"https://x.example/f?code={code}",
                "body": {"user": "me", "password": password},
                "headers": {"authorization": f"Basic {basic}"},
            },
            **after("A"),
        },
        "C": {
            **compose(
                [
                    "@concat('https://x.example?sig=', 'x')",
                    f"@concat('DefaultEndpointsProtocol=https;AccountKey={account};x=', 1)",
                    f'{{"password": "{in_json}", "a": "@{{variables(\'dbPassword\')}}"}}',
                ]
            ),
            **after("B"),
        },
        "D": {
            "type": "JavaScriptCode",
            "inputs": {"code": "x", "sasToken": sas},
            **after("C"),
            "description": f"uses {password}",
        },
        "E": {**compose({"key": "Color", "tokenType": "Bearer", "name": "key"}), **after("D")},
    }
    file = package(
        tmp_path, definition(actions, parameters={"Conn": {"type": "SecureString", "defaultValue": default}})
    )
    for n, args in enumerate(([], ["--faithful"], ["--json"])):
        said = imported(tmp_path, file, "-o", f"out{n}", *args)
        assert said.code == 1
        text = (tmp_path / f"out{n}/flow.yaml").read_text(encoding="utf-8")
        assert not [s for s in secrets if s in text + said.all], text
        flow = flow_in(tmp_path, f"out{n}/flow.yaml")
        hidden = {name: p["default"] for name, p in flow["parameters"].items() if p.get("secret")}
        assert len(hidden) == 11
        assert all(d == "${env:" + name.upper() + "}" for name, d in hidden.items())
        assert flow["steps"]["e"]["compose"] == {"key": "Color", "tokenType": "Bearer", "name": "key"}
        assert flow["steps"]["a"]["with"]["url"] == "https://x.example/y?sv=1&sig={{ parameters.a_sig }}&z=1"
        assert flow["steps"]["c"]["compose"][1].startswith(
            "{{ 'DefaultEndpointsProtocol=https;AccountKey=' ~ parameters.c_account_key ~ ';x='"
        )


def test_blanks_become_parameters() -> None:
    actions = {
        "V": {
            "type": "InitializeVariable",
            "inputs": {"variables": [{"name": "Url", "type": "String", "value": "<<Service URL>>"}]},
        },
        "A": {
            "type": "Http",
            "inputs": {
                "method": "GET",
                "uri": "@variables('Url')",
                "headers": {"k": "<<API Key>> x", "t": "<your-tenant-id>"},
            },
            **after("V"),
        },
        "B": {**compose("<p>text</p>"), **after("A")},
    }
    flow, _ = convert(definition(actions))
    assert flow["parameters"] == {
        "service_url": {"type": "string", "default": "${env:SERVICE_URL}", "note": "Service URL"},
        "api_key": {"type": "string", "default": "${env:API_KEY}", "secret": True, "note": "API Key"},
        "your_tenant_id": {"type": "string", "default": "${env:YOUR_TENANT_ID}", "note": "your-tenant-id"},
    }
    assert "variables" not in flow
    assert flow["steps"]["a"]["with"] == {
        "url": "{{ parameters.service_url }}",
        "headers": {"k": "{{ parameters.api_key }} x", "t": "{{ parameters.your_tenant_id }}"},
    }
    assert flow["steps"]["b"]["compose"] == "<p>text</p>"


def test_a_credential_of_azure_is_a_setting_of_the_connection(tmp_path: Path) -> None:
    auth = {
        "type": "ActiveDirectoryOAuth",
        "tenant": "contoso",
        "audience": "https://graph.microsoft.com/",
        "clientId": "abc",
        "secret": "very-secret-1",
    }
    file = package(
        tmp_path,
        definition(
            {
                "A": {
                    "type": "Http",
                    "inputs": {"method": "GET", "uri": "https://graph.microsoft.com/v1.0/me", "authentication": auth},
                }
            }
        ),
    )
    said = imported(tmp_path, file)
    assert said.code == 0, said.all
    assert (
        'auth: {type: microsoft, tenant: "contoso", client_id: "abc", client_secret: "${env:A_SECRET}", scope: https://graph.microsoft.com/.default}'
        in said.out
    )
    assert "hosts: [graph.microsoft.com]" in said.out
    assert "parameters" not in flow_in(tmp_path, "flow.yaml")


# It runs


def test_what_is_imported_does_what_it_did(tmp_path: Path) -> None:
    actions: dict[str, Any] = {
        "Init": {
            "type": "InitializeVariable",
            "inputs": {
                "variables": [
                    {"name": "Sum", "type": "Integer", "value": 0},
                    {"name": "Log", "type": "Array", "value": []},
                ]
            },
        },
        "Filter": {
            "type": "Query",
            "inputs": {"from": "@triggerBody()?['rows']", "where": "@greaterOrEquals(item()?['n'], 2)"},
            **after("Init"),
        },
        "Map": {
            "type": "Select",
            "inputs": {
                "from": "@body('Filter')",
                "select": {"Name": "@toUpper(item()?['name'])", "n": "@item()?['n']"},
            },
            **after("Filter"),
        },
        "Each": {
            "type": "Foreach",
            "foreach": "@body('Map')",
            **after("Map"),
            "actions": {
                "Add": {"type": "IncrementVariable", "inputs": {"name": "Sum", "value": "@items('Each')?['n']"}},
                "Check": {
                    "type": "If",
                    "expression": {"and": [{"greater": ["@items('Each')?['n']", 2]}]},
                    **after("Add"),
                    "actions": {
                        "Note": {
                            "type": "AppendToArrayVariable",
                            "inputs": {
                                "name": "Log",
                                "value": "@concat(item()?['Name'], ': ', string(items('Each')['n']))",
                            },
                        }
                    },
                },
            },
        },
        "Until": {
            "type": "Until",
            "expression": "@greater(variables('Sum'), 20)",
            "limit": {"count": 10, "timeout": "PT1H"},
            **after("Each"),
            "actions": {"More": {"type": "IncrementVariable", "inputs": {"name": "Sum", "value": 5}}},
        },
        "Kind": {
            "type": "Switch",
            "expression": "@variables('Sum')",
            **after("Until"),
            "cases": {"Right": {"case": 24, "actions": {"Right": compose("right")}}},
            "default": {"actions": {"Wrong": compose("wrong")}},
        },
        "Html": {"type": "Table", "inputs": {"from": "@body('Map')", "format": "HTML"}, **after("Kind")},
        "Try": {
            "type": "Scope",
            "actions": {"Fails": compose("@int('x')"), "Never": {**compose(1), **after("Fails")}},
            **after("Html"),
        },
        "Catch": {
            **compose("@{actions('Try')['status']}: @{result('Try')[0]['status']}, @{result('Try')[1]['status']}"),
            "runAfter": {"Try": ["Failed", "TimedOut"]},
        },
        "Finally": {
            **compose("@coalesce(triggerBody()?['none'], outputs('Right'), 'x')"),
            "runAfter": {"Catch": ["Succeeded", "Failed", "Skipped", "TimedOut"]},
        },
    }
    outputs = {
        name: {"type": "Object", "value": value}
        for name, value in {
            "sum": "@variables('Sum')",
            "log": "@variables('Log')",
            "html": "@body('Html')",
            "caught": "@outputs('Catch')",
            "last": "@outputs('Finally')",
            "names": "@join(body('Map'), '|')",
        }.items()
    }
    file = package(tmp_path, definition(actions, outputs=outputs))
    said = imported(tmp_path, file)
    assert said.code == 0, said.all
    given = {"rows": [{"name": "a", "n": 1}, {"name": "b", "n": 2}, {"name": "c<", "n": 7}]}
    said = flowrun("flow.yaml", "--json", "--input", "-", cwd=tmp_path, stdin=json.dumps(given).encode())
    assert said.code == 0, said.all
    assert said.end["outputs"] == {
        "sum": 24,
        "log": ["C<: 7"],
        "html": "<table><thead><tr><th>Name</th><th>n</th></tr></thead><tbody><tr><td>B</td><td>2</td></tr>"
        "<tr><td>C&lt;</td><td>7</td></tr></tbody></table>",
        "caught": "Failed: Failed, Skipped",
        "last": "right",
        "names": '{"Name":"B","n":2}|{"Name":"C<","n":7}',
    }


def test_a_missing_member_fails_where_it_would_lead_elsewhere_and_with_faithful(tmp_path: Path) -> None:
    actions = {
        "A": compose("@triggerBody()['none']"),
        "B": {
            "type": "Http",
            "inputs": {"method": "DELETE", "uri": "https://http.example/echo/@{triggerBody()['none']}"},
            **after("A"),
        },
    }
    file = package(tmp_path, definition(actions))
    said = imported(tmp_path, file)
    assert "once a member is read without `?`" in said.out
    ran = flowrun("flow.yaml", "--json", cwd=tmp_path)
    assert (ran.code, ran.steps["a"]["status"], ran.steps["b"]["status"]) == (1, "succeeded", "failed")
    imported(tmp_path, file, "--faithful", "--as", "strict")
    ran = flowrun("strict.yaml", "--json", cwd=tmp_path)
    assert (ran.code, ran.steps["a"]["status"]) == (1, "failed")


# Whatever it holds


ODD = [
    None, 5, True, "", "@", "@foo(", "@{x", "@item()", [], {}, [1, "@variables('Count')"], {"a": "@{1}"}, "tab\there",
    "\n  x\n", 1.5, {"and": []}, {"not": []}, "no", "2020-01-01", "{{x}}", "a: b # c", " lead", "@@x", "é\u2028x",
    "@triggerOutputs()", "@trigger()", "@workflow()", "@result('Scope')", "@actions('Call')", "@items('Each')",
    "@outputs('In_each')", "@body('Nope')",
]  # fmt: skip


def test_no_definition_breaks_it() -> None:
    """Parts of a definition are lost or replaced by odd things: it is converted all the same."""

    def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [path, *(p for key, member in members for p in places(member, (*path, key)))]

    chance = random.Random(7)
    for _ in range(250):
        given = copy.deepcopy(everything())
        for _ in range(chance.randint(1, 3)):
            *around, last = chance.choice([p for p in places(given) if p])
            holder: Any = given
            for key in around:
                holder = holder[key]
            if chance.random() < 0.2 and isinstance(holder, dict):
                del holder[last]
            else:
                holder[last] = copy.deepcopy(chance.choice(ODD))
        convert(given, faithful=chance.random() < 0.3)
